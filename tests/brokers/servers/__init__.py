"""The servers of brokers: one module for each kind, found by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache

from tests.brokers.server import BrokerServer


@cache
def load() -> dict[str, type[BrokerServer]]:
    """Return the server class of each kind."""
    found: dict[str, type[BrokerServer]] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for _, one in inspect.getmembers(loaded, inspect.isclass):
            if issubclass(one, BrokerServer) and one.__module__ == loaded.__name__:
                found[one.kind] = one
    return found
