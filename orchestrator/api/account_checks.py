"""Is an account any good? Asked now, of its vendor."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, found, reply
from orchestrator.api.operation import operation
from orchestrator.api.requests import Empty
from orchestrator.vendors import account_check
from orchestrator.vendors.account_check import CheckResult

#: Seconds for which an answer is given again: who asks in a loop does not make us ask the vendor in one.
_BELIEVED = 5.0


class AccountChecks:
    """Asks each vendor one thing at a time."""

    def __init__(self) -> None:
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._found: dict[str, tuple[CheckResult, float]] = {}

    @operation("Check an account", answers={200: schemas.AccountCheck})
    async def check(self, call: RequestContext, body: Empty) -> Response:
        """Ask the vendor about a task that cannot exist: it costs nothing, and shows whether the vendor is there and
        takes our credentials. The answer is believed for five seconds.
        """
        runtime = call.runtime
        vendor = found(runtime.vendors.get(call.request.path_params["name"]), "account")
        async with self._turns[vendor.account.name]:
            known, until = self._found.get(vendor.account.name, (None, 0.0))
            if known is None or runtime.clock.monotonic() >= until:
                known = await account_check.check_account(
                    vendor, runtime.http_client, runtime.clock
                )
                self._found[vendor.account.name] = known, runtime.clock.monotonic() + _BELIEVED
        return reply(known.shown())
