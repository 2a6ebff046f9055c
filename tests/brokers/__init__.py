"""Publishers against real brokers on loopback.

`servers` has one class for each kind; every test runs on all of them. `python -m tests.brokers`
states what cannot run here, and what it needs. `python -m tests.brokers.rates` measures.
"""
