"""Vendors: one dialect a file, translation only. Plug-in authors import what they need from here.

A dialect maps values to values: it never awaits, opens no socket and reads only the clock it is
given. To add one, add a file with one `Vendor` subclass to `dialects/`, and samples under
`tests/samples/<name>/`: the contract suite finds both. The folder is the registry, read by `load`.
"""

from __future__ import annotations

from orchestrator.foundation.settings.accounts import Account, Poll
from orchestrator.foundation.states import Capability, JobState
from orchestrator.vendors.contract import Lookup, Models, Options, Receipt, Vendor, segment
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
    "Models",
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
