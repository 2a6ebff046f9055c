"""Submitting: a queued job becomes one the vendor has, once.

The intent is committed before the request leaves, so a push can never meet a stranger and a crash leaves a row that
says "perhaps sent". A lease that ran out in `submitting` is a lost answer nobody saw.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from orchestrator.database import queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.engine import submit_outcome
from orchestrator.engine.runtime import Runtime, order_of
from orchestrator.engine.submit_outcome import SubmitOutcome
from orchestrator.engine.worker import Claimed, Worker
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Exchange, Refused, Unsupported
from orchestrator.foundation.states import JobState
from orchestrator.jobs import capacity
from orchestrator.jobs.ledger import ApplyResult, Reschedule
from orchestrator.vendors.contract import Lookup, Vendor

Row = Mapping[Any, Any]

log = structlog.get_logger()

#: Seconds for one submission, connect to last byte. A claim lasts twice that and a margin.
DEADLINE = 30.0
LEASE = 75.0
#: Submissions under way at once in this process.
LIMIT = 64
#: Seconds until an account that its rate holds back is looked at again, at the soonest.
_SOONEST = 0.01


def worker(runtime: Runtime) -> Worker[Row]:
    """Return the loop that submits."""
    stage = Submitter(runtime)
    return Worker(
        "submit", limit=LIMIT, take=stage.take, work=stage.work, give_back=stage.give_back
    )


class Submitter:
    """The stage, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._end = runtime.store.batched(self._record)
        self._again: asyncio.TimerHandle | None = None

    async def take(self, room: int) -> Claimed[Row]:
        """Claim lost submissions, then as many queued jobs as their accounts have slots and rate for."""
        claimed, wait = await self.runtime.store.write(self._claim, room)
        if self._again is not None:
            self._again.cancel()
        if wait is not None:
            # The tick alone would come late for every token, and make of a rate of 1.5 one of 1.
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(max(wait, _SOONEST), self.runtime.wake, "submit")
        return claimed

    def _claim(self, tx: Tx, room: int) -> tuple[Claimed[Row], float | None]:
        """Return the claimed, and the seconds until the rate of some account that it held back allows one more."""
        now = self.runtime.clock.now()
        lost = dict.fromkeys(self._lanes(tx, JobState.SUBMITTING), queue.QUANTUM)
        rows: list[Row] = list(queue.take_jobs(tx, JobState.SUBMITTING, lost, now, LEASE, room))
        limits = {
            name: self.runtime.vendors[name].account.max_in_flight
            for name in self._lanes(tx, JobState.QUEUED)
            if len(rows) < room
        }
        free = capacity.free_slots(tx, limits, now) if limits else {}
        begun, wait = self._begin(tx, free, room - len(rows), now)
        rows += begun
        full = any(free.get(name, 0) <= queue.QUANTUM for name in limits)
        return Claimed(rows, more=len(rows) >= min(room, queue.QUANTUM), full=full), wait

    def _begin(
        self, tx: Tx, free: Mapping[str, int], room: int, now: datetime
    ) -> tuple[list[dict[str, Any]], float | None]:
        """Begin queued jobs, as many of each account as it has slots and rate for."""
        rates = {
            name: rate
            for name in free
            if (rate := self.runtime.vendors[name].account.rate_limit) is not None
        }
        allowances = capacity.allowances(tx, rates, now) if rates else {}
        allowed = {name: int(one.tokens) for name, one in allowances.items()}
        quanta = {
            name: min(slots, queue.QUANTUM, allowed.get(name, slots))
            for name, slots in free.items()
        }
        queued = queue.take_jobs(tx, JobState.QUEUED, quanta, now, LEASE, room)
        begun = [row | {"fresh": True} for row in self.runtime.ledger.begin(tx, queued)]
        spent = Counter(row["account"] for row in begun)
        left = {name: one.less(spent[name]) for name, one in allowances.items()}
        capacity.spend(tx, {name: one for name, one in left.items() if spent[name]})
        return begun, min((one.wait for one in left.values() if one.wait), default=None)

    def _lanes(self, tx: Tx, state: JobState) -> list[str]:
        found = queue.lanes(tx, job.c.account, self.runtime.clock.now(), state)
        known = [name for name in found if name in self.runtime.vendors]
        self.runtime.rng.shuffle(known)
        return known

    async def give_back(self, rows: Sequence[Row]) -> None:
        """Return claims that were not begun: fresh ones to the queue, lost ones as they were."""
        now = self.runtime.clock.now()
        for undo, fresh in (
            (self.runtime.ledger.requeue, True),
            (self.runtime.ledger.postpone, False),
        ):
            held = [row for row in rows if bool(row.get("fresh")) is fresh]
            await self.runtime.store.write(
                undo, [Reschedule.of(row, {"due_at": now}) for row in held]
            )

    async def work(self, row: Row) -> None:
        """Submit a fresh job, or find out about a lost one, and record how that ended."""
        vendor = self.runtime.vendors[row["account"]]
        ending = await (
            self._submit(row, vendor) if row.get("fresh") else self._find_out(row, vendor)
        )
        if ending.note["outcome"] not in ("accepted", "found"):
            log.warning(
                "not submitted",
                job=row["id"],
                account=row["account"],
                attempt=row["attempt"],
                **ending.note,
            )
        verdict = await self.runtime.record_with_retry(self._end, ending)
        self.runtime.announce([verdict] if verdict else [])
        if ending.queue is not None:
            self.runtime.wake("submit")

    async def _submit(self, row: Row, vendor: Vendor) -> SubmitOutcome:
        # The exchange must be over before the claim is: a lease fences rows, and a vendor would take the job again.
        latest = after(row["due_at"], -DEADLINE)
        try:
            request = vendor.submission(order_of(self.runtime, row, vendor))
            request.extensions["may_leave"] = lambda: self.runtime.clock.now() <= latest
            with self.runtime.metrics.exchange(self.runtime.clock, vendor.name, "submit"):
                receipt = vendor.receipt(
                    await self.runtime.submission_client.send(request, deadline=DEADLINE)
                )
        except Exchange as error:
            return submit_outcome.interrupted(
                row, vendor, error, self.runtime.clock.now(), self.runtime.rng
            )
        except Unsupported as error:
            # It was checked when the job was taken on; the configuration has changed since.
            return submit_outcome.failed(row, Refused(error.why))
        return submit_outcome.accepted(row, receipt)

    async def _find_out(self, row: Row, vendor: Vendor) -> SubmitOutcome:
        if vendor.lookup is not Lookup.BY_EXTERNAL_ID:
            return submit_outcome.cannot_query(row, vendor, self.runtime.clock.now(), LEASE)
        try:
            request = vendor.lookup_request(order_of(self.runtime, row, vendor))
            with self.runtime.metrics.exchange(self.runtime.clock, vendor.name, "lookup"):
                reports = vendor.read_answer(
                    await self.runtime.http_client.send(request, deadline=DEADLINE)
                )
        except Exchange as error:
            return submit_outcome.lookup_failed(
                row, vendor, error, self.runtime.clock.now(), self.runtime.rng
            )
        return submit_outcome.after_lookup(row, vendor, reports, self.runtime.clock.now())

    def _record(self, tx: Tx, ended: list[SubmitOutcome]) -> list[ApplyResult | None]:
        return submit_outcome.record(
            tx, self.runtime.ledger, self.runtime.rng, ended, self.runtime.clock.now()
        )
