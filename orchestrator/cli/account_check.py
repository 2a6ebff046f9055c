"""Checks of accounts from this machine, for the moment before a server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.settings import Settings
from orchestrator.vendors.account_check import check_account
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.registry import accounts, bind_vendor


def checks(settings: Settings, names: Sequence[str]) -> list[Record]:
    """Return the checks of accounts, all if none is named.

    Raises `Failure` for a name that is not configured, and `ConfigError` for settings the vendor cannot work with.
    """
    known = accounts(settings)
    for name in names:
        if name not in known:
            raise Failure(
                f"no account is called {name}",
                code=Exit.NOT_FOUND,
                hint=f"there are: {', '.join(known)}",
            )
    vendors = [bind_vendor(known[name], SystemClock()) for name in names or sorted(known)]
    return asyncio.run(_asked(settings, vendors))


async def _asked(settings: Settings, vendors: Sequence[Vendor]) -> list[Record]:
    internet = HttpClient(GuardedTransport(AddressPolicy(settings.allow_private)))
    try:
        found = await asyncio.gather(
            *(check_account(vendor, internet, SystemClock()) for vendor in vendors)
        )
    finally:
        await internet.aclose()
    return [one.shown() for one in found]
