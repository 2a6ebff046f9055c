"""The notifier: wakes what waits for a committed change.

A wake-up is an optimisation. Every waiter also looks on its own within a second, so a lost wake-up
costs a second and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from orchestrator.database.store import Store
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine.worker import Worker
from orchestrator.events.feed import EventFeed
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.states import FINAL, JobState
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import ApplyResult
from orchestrator.jobs.transition import ReportOutcome
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()


class JobWaiters:
    """Callers that wait for a job to change."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, job_id: str) -> None:
        """Wake every caller that waits for this job."""
        for waiter in self._waiting.get(job_id, ()):
            waiter.set()

    async def wait(self, job_id: str, seconds: float) -> None:
        """Return when the job may have changed, or after that many seconds."""
        waiter = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter.wait()
        except TimeoutError:
            return
        finally:
            self._waiting[job_id].discard(waiter)
            if not self._waiting[job_id]:
                del self._waiting[job_id]


class Notifier:
    """Wakes stages, followers of the event feed, and callers that wait for a job."""

    def __init__(
        self,
        store: Store,
        feed: EventFeed,
        vendors: Mapping[str, Vendor],
        metrics: Metrics,
        clock: Clock,
        learning: Learning,
    ) -> None:
        self._store = store
        self._feed = feed
        self._vendors = vendors
        self._metrics = metrics
        self._clock = clock
        self._learning = learning
        self.job_waiters = JobWaiters()
        #: The loops of this process, by stage. Empty in a process with the role `api`.
        self.workers: dict[str, Worker[Any]] = {}

    def wake(self, stage: str) -> None:
        """Wake a stage because work is due.

        If this process has no room for it, the other processes on the database are notified.
        """
        if stage == "deliver":
            # Deliveries are due because an event was committed, or may have been.
            self._feed.wake()
        self._wake(stage)

    def _wake(self, stage: str) -> None:
        worker = self.workers.get(stage)
        if worker is not None:
            worker.wake()
        if worker is None or not worker.has_room:
            self._store.wake(stage)

    def wake_here(self, stage: str) -> None:
        """Wake a stage of this process, if it runs one."""
        if stage in self.workers:
            self.workers[stage].wake()

    def make_room(self, stage: str) -> None:
        """Wake a stage of this process if it had left work for want of a free slot."""
        if stage in self.workers:
            self.workers[stage].make_room()

    def announce(self, results: Sequence[ApplyResult]) -> None:
        """Wake the waiters that committed results concern; log and count the results."""
        for result in results:
            if result.owed:
                self._wake("deliver")
            row = result.job
            if row is None:
                continue
            _log(result, row)
            self.job_waiters.wake(row["id"])
            if result.moved or result.outcome is ReportOutcome.STUCK:
                self._feed.wake()
            if result.moved in FINAL:
                vendor = self._vendors.get(row["account"])
                self._learning.ended(row, ours=result.ours)
                self._metrics.ended(row, pushes=vendor is not None and vendor.pushes)
                self.make_room("submit")
            if row["due_at"] is not None and row["due_at"] <= self._clock.now():
                self.wake("poll")


#: Moves that are not logged: subscribers hear of them, operators need not.
_EXPECTED = (JobState.SUBMITTED, JobState.PROCESSING, JobState.SUCCEEDED, JobState.CANCELED)


def _log(result: ApplyResult, row: JobRow) -> None:
    if result.outcome is ReportOutcome.CONTRADICTS:
        log.warning("a vendor contradicts its first verdict", job=row["id"], account=row["account"])
    if result.outcome is ReportOutcome.STUCK:
        log.warning(
            "a vendor does not know a task that it accepted",
            job=row["id"],
            account=row["account"],
            task=row["vendor_task_id"],
        )
    if result.moved and result.moved not in _EXPECTED:
        log.warning(
            "job moved",
            job=row["id"],
            account=row["account"],
            to=result.moved,
            by=row["resolved_by"],
            why=(row["error"] or {}).get("message"),
        )
