"""The registry of dialects, and the vendor object of each configured account."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.accounts import Account
from orchestrator.vendors import dialects
from orchestrator.vendors.contract import Vendor


@cache
def load() -> Mapping[str, type[Vendor]]:
    """Import every module of `dialects` and return its `Vendor` subclass by name."""
    found: dict[str, type[Vendor]] = {}
    for module in pkgutil.iter_modules(dialects.__path__):
        loaded = importlib.import_module(f"{dialects.__name__}.{module.name}")
        for _, member in inspect.getmembers(loaded, inspect.isclass):
            if (
                issubclass(member, Vendor)
                and member.__module__ == loaded.__name__
                and not inspect.isabstract(member)
            ):
                found[member.name] = member
    return MappingProxyType(found)


def bind_vendor(account: Account, clock: Clock) -> Vendor:
    """Return the vendor object of an account. Raises `ConfigError` if the name is unknown."""
    known = load()
    if account.vendor not in known:
        names = ", ".join(sorted(known))
        raise ConfigError(
            f"accounts.{account.name}.vendor is {account.vendor!r}; known vendors: {names}"
        )
    return known[account.vendor](account, clock)
