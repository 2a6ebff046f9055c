"""Vendors: one dialect a file, translation only. What a plug-in needs is importable from here.

A vendor takes values and gives values; it never awaits, opens a socket or reads a clock other than the one it is given.
Adding one is a file in `dialects/` with one `Vendor` subclass, and samples under `tests/samples/<name>/`: the contract
suite finds both. The folder is the registry: `load()` is called by name in `app.py`.
"""

from __future__ import annotations

from orchestrator.foundation.settings.accounts import Account, Poll
from orchestrator.foundation.states import Capability, JobState
from orchestrator.vendors.contract import Lookup, Options, Receipt, Vendor, segment
from orchestrator.vendors.field_mapping import FieldTarget, RequestMapping, choice, whole_seconds
from orchestrator.vendors.order import Order
from orchestrator.vendors.registry import load
from orchestrator.vendors.report import WORDS, Report

__all__ = [
    "WORDS",
    "Account",
    "Capability",
    "FieldTarget",
    "JobState",
    "Lookup",
    "Options",
    "Order",
    "Poll",
    "Receipt",
    "Report",
    "RequestMapping",
    "Vendor",
    "choice",
    "load",
    "segment",
    "whole_seconds",
]
