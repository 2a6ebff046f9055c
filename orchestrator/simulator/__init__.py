"""A simulator of every vendor, strictly by their documents, and of a subscriber that verifies.

It shares no code with the product's dialects: the two readings of a document check each other.

    vendors.py       every vendor on one port           subscriber.py   receives deliveries
    vendor_api.py    the HTTP API of one vendor         renderer.py     its renders
    push_sender.py   pushes to callback URLs            faults.py       the table of planted faults
    contract.py      the parts of a dialect             dialects/       one file a vendor
    odd_shapes.py    answers as gateways really write them
    schema.py, body_fields.py, json_body.py             request bodies and their checks
    kling_api.py, kling_legacy.py, kling_new.py         what dialects share of Kling's two standards
    new_api.py       what dialects share of new-api     errors.py, authentication.py, task_ids.py
    accounts.py, sample_jobs.py                         settings and submissions for the vendors
    control.py       HTTP control, /_control            server.py, records.py
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.simulator.faults import Faults
    from orchestrator.simulator.subscriber import Subscriber
    from orchestrator.simulator.vendors import SimulatedVendors

__all__ = ["Faults", "SimulatedVendors", "Subscriber"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `__main__` reports what is not installed."""
    modules = {"Faults": "faults", "SimulatedVendors": "vendors", "Subscriber": "subscriber"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
