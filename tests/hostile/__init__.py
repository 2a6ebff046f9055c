"""Hostile input at volume: a real service gets seeded, mostly invalid input on every operation.

    python -m tests.hostile [--inputs N] [--seed N]

documents.py    values and bodies: mutated, deep, wide, oddly encoded
operations.py   requests for every operation, pushes and uploads included
connection.py   kept connections that carry them        peers.py   a vendor and a subscriber that
run.py          clients, memory by quarter, the table              answer with hostile documents
"""
