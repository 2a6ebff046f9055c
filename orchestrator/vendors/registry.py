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
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.settings.accounts import Account, Poll
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


def accounts(settings: Settings) -> dict[str, Account]:
    """Return the configured accounts by name."""
    return {
        name: Account(
            name=name,
            vendor=account.vendor,
            base_url=account.base_url,
            api_key=account.api_key.get_secret_value(),
            access_key=account.access_key.get_secret_value(),
            secret_key=account.secret_key.get_secret_value(),
            signature=account.signature,
            webhook_secrets=tuple(secret.get_secret_value() for secret in account.webhook_secrets),
            max_in_flight=account.max_in_flight,
            rate_limit=account.rate_limit,
            at_least_once=account.on_lost_submit == "at_least_once",
            options=account.options,
            poll=Poll(**account.poll.model_dump()),
        )
        for name, account in settings.accounts.items()
    }


def bind_vendor(account: Account, clock: Clock) -> Vendor:
    """Return the vendor object of an account. Raises `ConfigError` if the name is unknown."""
    known = load()
    if account.vendor not in known:
        names = ", ".join(sorted(known))
        raise ConfigError(
            f"accounts.{account.name}.vendor is {account.vendor!r}; known vendors: {names}"
        )
    return known[account.vendor](account, clock)
