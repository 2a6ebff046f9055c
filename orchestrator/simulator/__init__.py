"""The fake internet: gateways that speak every dialect strictly from their documents, and a subscriber that verifies.

Nothing here reads the product's own translation, so that the two readings of a document check each other.

    world.py       every vendor on one port         subscriber.py   the other end of deliveries
    gateway.py     HTTP doors of one vendor         studio.py       its renders
    courier.py     pushes                           faults.py       misbehaviour on request
    dialect.py     what a dialect is made of        dialect_*.py    one vendor each, as data
    shapes.py, fields.py, legacy.py, new.py         what bodies may hold
    kling.py, video_object.py                       what bodies say
    accounts.py, orders.py                          settings and submit bodies that fit the simulated vendors
"""

from __future__ import annotations

from orchestrator.simulator.faults import Faults
from orchestrator.simulator.subscriber import Subscriber
from orchestrator.simulator.world import World

__all__ = ["Faults", "Subscriber", "World"]
