"""Attack suite: one function per attack, each against a service of its own on loopback.

    python -m tests.attack [--only NAME] [--list]      table: attack, held, figures

attack.py     what an attack is, and its report     arena.py      a service, a vendor, a caller
observer.py   memory, latency, other callers        service.py    the product under limits
origin.py     a scripted vendor or subscriber       wire.py       raw connections to the service
commands.py   the command line, under limits        documents.py  large and nested documents
run.py        all attacks as a table

Attacks: request_heads.py, connections.py, request_bodies.py, reading.py, peers.py, pushes.py,
deliveries.py, secrecy.py, command_line.py, terminals.py, outages.py
"""
