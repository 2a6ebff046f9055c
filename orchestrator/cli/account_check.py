"""Checks of accounts from this machine, before a server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.cli.failure import Exit, Failure
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from orchestrator.foundation.authorities import client_context
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.settings import Settings
from orchestrator.schemas import AccountCheck
from orchestrator.vendors.account_check import check_account
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.registry import bind_vendor


def checks(settings: Settings, names: Sequence[str]) -> list[AccountCheck]:
    """Return the checks of accounts (default: all).

    Raises `Failure` for a name that is not configured, `ConfigError` for unusable settings.
    """
    known = settings.accounts
    for name in names:
        if name not in known:
            raise Failure(
                f"no account is called {name}",
                code=Exit.NOT_FOUND,
                hint=f"there are: {', '.join(known)}",
            )
    vendors = [bind_vendor(known[name], SystemClock()) for name in names or sorted(known)]
    return asyncio.run(_asked(settings, vendors))


async def _asked(settings: Settings, vendors: Sequence[Vendor]) -> list[AccountCheck]:
    tls = client_context(settings.ca_file)
    http = HttpClient(GuardedTransport(AddressPolicy(settings.allow_private), tls=tls))
    try:
        found = await asyncio.gather(
            *(check_account(vendor, http, SystemClock()) for vendor in vendors)
        )
    finally:
        await http.aclose()
    return [AccountCheck.model_validate(check.shown()) for check in found]
