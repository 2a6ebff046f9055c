"""Expiry: live jobs past their deadline become `expired`.

The vendor's verdict may still overtake it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from orchestrator.database.store import Store
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Report

#: Jobs that one sweep looks at.
SWEEP = 500


@dataclass(kw_only=True)
class Expiry:
    """The tick that expires jobs."""

    store: Store
    ledger: Ledger
    clock: Clock
    notifier: Notifier

    def __post_init__(self) -> None:
        self._apply = self.store.batched(self.ledger.apply)

    async def run(self) -> None:
        """Expire every live job whose deadline has passed."""
        now = self.clock.now()
        while overdue := await self.store.read(self.ledger.overdue, now, SWEEP):
            # Together they share a few commits. One after the other, each would cost its own.
            await asyncio.gather(*map(self._expire, overdue))
            if len(overdue) < SWEEP:
                return

    async def _expire(self, job_id: str) -> None:
        report = ReportEvent(job_id, Report(JobState.EXPIRED), Source.CLOCK)
        self.notifier.announce([await self._apply(report)])
