"""The tick of held accounts: it checks whether their vendors accept them again.

Of several replicas one checks. Pauses that are over end here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.database.store import Store, Tx
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.clock import Clock, Rng
from orchestrator.foundation.ids import Ids
from orchestrator.jobs import holds
from orchestrator.vendors.account_check import DEADLINE, CheckResult, check_account
from orchestrator.vendors.contract import Vendor

#: Seconds beyond its deadline after which another process makes a check.
_MARGIN = 20.0


@dataclass(kw_only=True)
class AccountHolds:
    """The tick that checks held accounts."""

    store: Store
    vendors: Mapping[str, Vendor]
    http_client: HttpClient
    ids: Ids
    clock: Clock
    rng: Rng
    notifier: Notifier

    async def start(self) -> None:
        """Look at all holds soon: the credentials may have changed with the settings."""
        names = sorted(self.vendors)
        if await self.store.read(holds.are_any, names):
            await self.store.write(holds.look_at_start, names, self.clock.now())

    async def run(self) -> None:
        """Check the held accounts that are due, and end the pauses that are over."""
        names = sorted(self.vendors)
        if not await self.store.read(holds.is_due, names, self.clock.now()):
            return
        due, has_news = await self.store.write(self._take, names)
        if has_news:
            self.notifier.wake("deliver")
        await asyncio.gather(*(self._check(self.vendors[name]) for name in due))

    def _take(self, tx: Tx, names: list[str]) -> tuple[list[str], bool]:
        return holds.take_due(tx, self.ids, names, self.clock.now(), DEADLINE + _MARGIN)

    async def _check(self, vendor: Vendor) -> None:
        await self.note(await check_account(vendor, self.http_client, self.clock), asked=False)

    async def note(self, check: CheckResult, *, asked: bool) -> None:
        """Record a check. It may end the hold, so jobs and events are due. Raises `Unavailable`."""
        look = holds.Look(check.reachable, check.authorized, check.detail, check.checked_at)
        await self.store.write(self._note, check.account, look, asked)
        self.notifier.wake("submit")
        self.notifier.wake("deliver")

    def _note(self, tx: Tx, account: str, look: holds.Look, asked: bool) -> None:
        holds.checked(tx, self.ids, self.rng, account, look, self.clock.now(), asked=asked)
