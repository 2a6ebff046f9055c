"""Account checks: one query to the vendor of an account, on request."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.operation import operation
from orchestrator.api.requests import Empty
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.account_holds import AccountHolds
from orchestrator.foundation.clock import Clock
from orchestrator.vendors import account_check
from orchestrator.vendors.account_check import CheckResult
from orchestrator.vendors.contract import Vendor

#: Seconds for which a result is reused: a caller's loop does not become a loop of queries.
_CACHED = 5.0


@dataclass(kw_only=True)
class AccountChecks:
    """Queries each vendor at most once at a time, and caches the result."""

    vendors: Mapping[str, Vendor]
    http_client: HttpClient
    clock: Clock

    def __post_init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._results: dict[str, tuple[CheckResult, float]] = {}

    @operation("Check an account", responses={200: schemas.AccountCheck})
    async def check(self, context: RequestContext, body: Empty) -> Response:
        """Ask the vendor about a task that cannot exist: it costs nothing, and shows whether the
        vendor is reachable and accepts our credentials. The result is cached for five seconds.
        If the account is held and its credentials are accepted, its jobs are submitted again; where
        that does not show whether the vendor takes jobs, one job is submitted first.
        """
        vendor = or_not_found(self.vendors.get(context.request.path_params["name"]), "account")
        name = vendor.account.name
        async with self._locks[name]:
            result, until = self._results.get(name, (None, 0.0))
            if result is None or self.clock.monotonic() >= until:
                result = await account_check.check_account(vendor, self.http_client, self.clock)
                self._results[name] = result, self.clock.monotonic() + _CACHED
                await context.runtime.assemble(AccountHolds).note(result, asked=True)
        return reply(result.shown())
