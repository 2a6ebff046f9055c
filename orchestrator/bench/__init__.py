"""Benches: every figure beside its limit, measured in the same run, since machines are noisy and ratios are not.

    benches.py    all of them by name
    plan.py       what is asked for            figures.py    what comes of it
    ingest.py     pushes that end jobs         deliver.py    deliveries owed to one subscriber
    lifecycle.py  whole jobs                   walk.py       ... and who drives them
    latency.py    push -> delivered            isolation.py  ... beside subscribers that hang
    fanout.py     one event for many           poll.py       asking, and having nothing to ask
    claims.py     what a claim costs           missed.py     when every push is lost
    memory.py     what the service holds       start.py      until it is ready
    growth.py     the same as a database grows

What is measured is `orchestrator serve` itself, in a process of its own, driven from this one:

    place.py      a database for one run       seeding.py, history.py, series.py   what is in it at first
    processes.py  starting, watching, ending   service.py, counted.py              the service, its statements counted
    raw.py        HTTP that costs little       load.py, rows.py, truth.py          the load, bare commits, what is true
    child.py      what every other process is made of: bare.py, gateway.py, sink.py, stuck.py
"""
