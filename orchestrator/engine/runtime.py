"""What every stage is given: the ports, the database, the internet, the keys, and who to wake."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from orchestrator.database.store import Batch, Store
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.worker import Worker
from orchestrator.events.destinations import Destination
from orchestrator.events.feed import EventFeed
from orchestrator.foundation.admission import Admission
from orchestrator.foundation.clock import Clock, Rng, jittered
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.states import FINAL, Capability, JobState
from orchestrator.jobs.ledger import ApplyResult, Ledger
from orchestrator.jobs.transition import ReportEvent, ReportOutcome
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.order import Order

log = structlog.get_logger()
ItemT = TypeVar("ItemT")
R = TypeVar("R")

#: Seconds an outcome waits for the database. Shorter than any lease leaves.
PATIENCE = 20.0
#: A callback token outlives its job by this much: vendors push late.
TOKEN_GRACE = timedelta(days=7)
#: Callers that are kept waiting at once. Each costs some 50 kB.
_WAITERS = 1000


class JobWaiters:
    """Wakes those who wait for a job to change. Waiters look again themselves: a missed ring costs a second."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, job_id: str) -> None:
        """Wake everybody who waits for this job."""
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


@dataclass(slots=True)
class Runtime:
    """Made once, in `app.py`. `vendors` is by account name, `destinations` by kind."""

    settings: Settings
    clock: Clock
    rng: Rng
    ids: Ids
    keys: Keys
    store: Store
    ledger: Ledger
    #: Questions and deliveries: connections are kept.
    http_client: HttpClient
    #: Submissions: a fresh connection each, since a stale one is how a POST gets lost half-way.
    submission_client: HttpClient
    address_policy: AddressPolicy
    vendors: Mapping[str, Vendor]
    destinations: Mapping[str, Destination]
    job_waiters: JobWaiters = field(default_factory=JobWaiters)
    workers: dict[str, Worker[Any]] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    apply_batch: Batch[ReportEvent, ApplyResult] = field(init=False)
    #: The log, as those see it who follow it.
    feed: EventFeed = field(init=False)
    #: Places for those who are kept waiting: streams, long polls, `Prefer: wait`.
    waiting_slots: Admission = field(init=False)

    def __post_init__(self) -> None:
        self.apply_batch = self.store.batched(self.ledger.apply)
        self.feed = EventFeed(self.store, self.clock, timedelta(days=self.settings.retention_days))
        self.waiting_slots = Admission(self.rng, places=_WAITERS)

    @property
    def base(self) -> str:
        """Our public URL, without a slash at its end."""
        return self.settings.public_url.rstrip("/")

    def wake(self, stage: str) -> None:
        """Tell a stage that something is due: here, or if it has no room here, wherever else the database is shared."""
        worker = self.workers.get(stage)
        if stage == "deliver":
            # Whoever says this has committed an event, or may have.
            self.feed.wake()
        if worker is not None:
            worker.wake()
        if worker is None or not worker.has_room:
            self.store.wake(stage)

    def announce(self, verdicts: Sequence[ApplyResult]) -> None:
        """Wake whom committed verdicts concern: those who wait for the job, deliveries, and a slot's next job."""
        for verdict in verdicts:
            if verdict.job is None:
                continue
            _log(verdict)
            self.job_waiters.wake(verdict.job["id"])
            if verdict.moved:
                self.wake("deliver")
                if verdict.job["state"] in FINAL:
                    self._ended(verdict.job)
            if verdict.job["due_at"] is not None and verdict.job["due_at"] <= self.clock.now():
                self.wake("poll")

    def _ended(self, row: Mapping[Any, Any]) -> None:
        vendor = self.vendors.get(row["account"])
        self.metrics.ended(row, pushes=vendor is not None and vendor.pushes)
        if "submit" in self.workers:
            self.workers["submit"].make_room()

    async def apply_report(self, heard: ReportEvent) -> ApplyResult:
        """Give a report to the ledger and wake whom it concerns. Raises `Unavailable`."""
        verdict = await self.apply_batch(heard)
        self.announce([verdict])
        return verdict

    async def record_with_retry(self, batch: Batch[ItemT, R], item: ItemT) -> R:
        """Record what cannot be learned again, patiently: a vendor's acceptance outlives a database that is away.

        Raises `Unavailable` after `PATIENCE` seconds; the claim's lease then brings the work back.
        """
        started = self.clock.monotonic()
        while True:
            try:
                return await batch(item)
            except Unavailable:
                if self.clock.monotonic() - started > PATIENCE:
                    raise
                await self.clock.sleep(jittered(0.5, self.rng, 1.0))


def _log(verdict: ApplyResult) -> None:
    """Say what became of a job. What went well is told to those who asked; trouble is told to the operator."""
    row = verdict.job or {}
    if verdict.outcome is ReportOutcome.CONTRADICTS:
        log.warning("a vendor contradicts its first verdict", job=row["id"], account=row["account"])
    if verdict.moved and row["state"] not in _WELL:
        why = (row["error"] or {}).get("message")
        log.warning(
            "job moved",
            job=row["id"],
            account=row["account"],
            to=row["state"],
            by=row["resolved_by"],
            why=why,
        )


_WELL = (JobState.SUBMITTED, JobState.PROCESSING, JobState.SUCCEEDED, JobState.CANCELED)


def order_of(runtime: Runtime, row: Mapping[Any, Any], vendor: Vendor) -> Order:
    """Return the order of a job's row, with the callback URL of its current attempt."""
    token = runtime.keys.mint(
        row["account"], Callback(row["id"], row["attempt"]), row["deadline_at"] + TOKEN_GRACE
    )
    return Order(
        job_id=row["id"],
        model=row["model"],
        capability=Capability(row["capability"]),
        given=row["input"],
        external_task_id=row["external_task_id"],
        callback_url=f"{runtime.base}/callbacks/{row['account']}/{token}"
        if vendor.pushes
        else None,
        vendor_task_id=row["vendor_task_id"],
        attempt=row["attempt"],
    )
