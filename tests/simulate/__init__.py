"""Seeded simulator: the whole product in virtual time, with crashes at every `await`.

    python -m tests.simulate --seed 17          one run, its trace and its hash, reproducible
    python -m tests.simulate --seeds 20000      many runs, on every core

Real: the product's stages, ledger, store, API and SQL. Simulated: time (`loop`), threads and disk
(`database`, `writers`), sockets (`network`), vendors and clients. `planted_faults` holds faults
that must be found.

    plan            run parameters of a seed        replica         one process of the product
    run             one seed from start to end      clients         subscribers and callers
    world           all parts of a run              vendors         gateways that render and push
    loop            virtual time, crash, freeze     dialects        their request formats
    committed_rows  the database after a commit     invariants      checks after every commit
    next_due        when a tick finds work          final_checks    checks at the end
    warm            what is known before a run      learned         checks of what is learned
"""
