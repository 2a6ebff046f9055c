"""The whole product in virtual time: seeded scheduling, faulty vendors and subscribers, crashes at every `await`.

    python -m tests.simulate --seed 17          one run, its trace and its hash: the same every time
    python -m tests.simulate --seeds 20000      many runs, on every core

What is real: the product's own stages, ledger, store, doors and SQL. What is not: time (`loop`), the threads beside the
loop and the disk (`database`), sockets (`network`), and everybody out there (`vendors`, `people`). `plan` says what a
seed means, `world` holds a run together, `invariants` looks after every commit and `endings` when all is over.
`planted` holds bugs that must be found.

    loop        virtual time; processes that crash and freeze        dialects    how four gateways are spoken to
    database    one database for all replicas                        vendors     gateways that render, push and err
    books       what is committed, read whole                        people      subscribers, callers, an operator
    agenda      when a tick would find something                     replica     the product as one process
    run         one seed from start to end                           trace       what happened, hashed
"""
