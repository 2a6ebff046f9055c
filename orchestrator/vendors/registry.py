"""Every dialect by its name, and the vendor that each configured account is bound to."""

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
    """Import every module of `dialects` and return its one vendor by name."""
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
            vendor=one.vendor,
            base_url=one.base_url,
            api_key=one.api_key.get_secret_value(),
            access_key=one.access_key.get_secret_value(),
            secret_key=one.secret_key.get_secret_value(),
            signature=one.signature,
            webhook_secrets=tuple(secret.get_secret_value() for secret in one.webhook_secrets),
            max_in_flight=one.max_in_flight,
            rate_limit=one.rate_limit,
            at_least_once=one.on_lost_submit == "at_least_once",
            options=one.options,
            poll=Poll(**one.poll.model_dump()),
        )
        for name, one in settings.accounts.items()
    }


def bind_vendor(account: Account, clock: Clock) -> Vendor:
    """Return the vendor of an account. Raises `ConfigError` if there is none of that name."""
    known = load()
    if account.vendor not in known:
        names = ", ".join(sorted(known))
        raise ConfigError(
            f"accounts.{account.name}.vendor is {account.vendor!r}; known vendors: {names}"
        )
    return known[account.vendor](account, clock)
