"""Chaos suite: real processes and real faults on loopback, and an independent audit of the result.

    python -m tests.chaos [--fault NAME] [--database KIND] [--runs N]     table: fault x database
    python -m tests.chaos steady                                          throughput during kills

run.py             one run: load, fault, audit    testbed.py         vendors, replicas, proxies
load.py            callers that retry             postgres_server.py a server to disturb
proxy.py           a TCP proxy                    connection_modes.py how it disturbs
service.py         the product with failpoints    failpoints.py      where they are
simulator.py       the simulator, with digests   throughput.py      throughput over time
                   and an ordered subscriber     fault_matrix.py    all runs as a table

Faults: kills.py, crashes.py, pauses.py, postgres_outages.py, write_failures.py, clocks.py,
network.py, partitions.py
"""
