"""Real processes, real faults, on loopback; and an auditor who was outside when it happened.

python -m tests.chaos [--fault NAME] [--database KIND] [--runs N]     a table: fault x database
python -m tests.chaos steady                                          throughput while replicas are killed

run.py       one run: stage, load, fault, quiet, audit     stage.py     world, replicas, database, network
load.py      callers who repeat themselves                 server.py    a PostgreSQL of our own
proxy.py     a network that misbehaves                     ways.py      how it does
program.py   the product, able to strike itself            failpoints.py where it can
world.py     the simulator, which remembers bytes          nursery.py   starts processes without their imports
steady.py    throughput over time                          table.py     all runs, and what they came to

Faults, one module per meaning: kills.py, points.py, pauses.py, outages.py, disk.py, clocks.py, network.py,
partitions.py
"""
