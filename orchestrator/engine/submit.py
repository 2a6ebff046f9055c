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
from orchestrator.engine.submit_outcome import Ending
from orchestrator.engine.worker import Claimed, Worker
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Exchange, Refused, Unsupported
from orchestrator.foundation.states import JobState
from orchestrator.jobs import capacity
from orchestrator.jobs.ledger import Postponed, Verdict
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


def worker(rt: Runtime) -> Worker[Row]:
    """Return the loop that submits."""
    stage = Submitting(rt)
    return Worker(
        "submit", limit=LIMIT, take=stage.take, work=stage.work, give_back=stage.give_back
    )


class Submitting:
    """The stage, over one runtime."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self._end = rt.store.batched(self._record)
        self._again: asyncio.TimerHandle | None = None

    async def take(self, room: int) -> Claimed[Row]:
        """Claim lost submissions, then as many queued jobs as their accounts have slots and rate for."""
        claimed, wait = await self.rt.store.write(self._claim, room)
        if self._again is not None:
            self._again.cancel()
        if wait is not None:
            # The tick alone would come late for every token, and make of a rate of 1.5 one of 1.
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(max(wait, _SOONEST), self.rt.nudge, "submit")
        return claimed

    def _claim(self, tx: Tx, room: int) -> tuple[Claimed[Row], float | None]:
        """Return the claimed, and the seconds until the rate of some account that it held back allows one more."""
        now = self.rt.clock.now()
        lost = dict.fromkeys(self._lanes(tx, JobState.SUBMITTING), queue.QUANTUM)
        rows: list[Row] = list(queue.take_jobs(tx, JobState.SUBMITTING, lost, now, LEASE, room))
        limits = {
            name: self.rt.vendors[name].account.max_in_flight
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
            if (rate := self.rt.vendors[name].account.rate_limit) is not None
        }
        allowances = capacity.allowances(tx, rates, now) if rates else {}
        allowed = {name: int(one.tokens) for name, one in allowances.items()}
        quanta = {
            name: min(slots, queue.QUANTUM, allowed.get(name, slots))
            for name, slots in free.items()
        }
        queued = queue.take_jobs(tx, JobState.QUEUED, quanta, now, LEASE, room)
        begun = [row | {"fresh": True} for row in self.rt.ledger.begin(tx, queued)]
        spent = Counter(row["account"] for row in begun)
        left = {name: one.less(spent[name]) for name, one in allowances.items()}
        capacity.spend(tx, {name: one for name, one in left.items() if spent[name]})
        return begun, min((one.wait for one in left.values() if one.wait), default=None)

    def _lanes(self, tx: Tx, state: JobState) -> list[str]:
        found = queue.lanes(tx, job.c.account, self.rt.clock.now(), state)
        known = [name for name in found if name in self.rt.vendors]
        self.rt.rng.shuffle(known)
        return known

    async def give_back(self, rows: Sequence[Row]) -> None:
        """Return claims that were not begun: fresh ones to the queue, lost ones as they were."""
        now = self.rt.clock.now()
        for undo, fresh in ((self.rt.ledger.requeue, True), (self.rt.ledger.postpone, False)):
            held = [row for row in rows if bool(row.get("fresh")) is fresh]
            await self.rt.store.write(undo, [Postponed.of(row, {"due_at": now}) for row in held])

    async def work(self, row: Row) -> None:
        """Submit a fresh job, or find out about a lost one, and record how that ended."""
        vendor = self.rt.vendors[row["account"]]
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
        verdict = await self.rt.insist(self._end, ending)
        self.rt.told([verdict] if verdict else [])
        if ending.queue is not None:
            self.rt.nudge("submit")

    async def _submit(self, row: Row, vendor: Vendor) -> Ending:
        # The exchange must be over before the claim is: a lease fences rows, and a vendor would take the job again.
        latest = after(row["due_at"], -DEADLINE)
        try:
            request = vendor.submission(order_of(self.rt, row, vendor))
            request.extensions["may_leave"] = lambda: self.rt.clock.now() <= latest
            with self.rt.metrics.exchange(self.rt.clock, vendor.name, "submit"):
                receipt = vendor.receipt(await self.rt.submissions.send(request, deadline=DEADLINE))
        except Exchange as error:
            return submit_outcome.interrupted(row, vendor, error, self.rt.clock.now(), self.rt.rng)
        except Unsupported as error:
            # It was checked when the job was taken on; the configuration has changed since.
            return submit_outcome.failed(row, Refused(error.why))
        return submit_outcome.accepted(row, receipt)

    async def _find_out(self, row: Row, vendor: Vendor) -> Ending:
        if vendor.lookup is not Lookup.BY_EXTERNAL_ID:
            return submit_outcome.unasked(row, vendor, self.rt.clock.now(), LEASE)
        try:
            request = vendor.lookup_request(order_of(self.rt, row, vendor))
            with self.rt.metrics.exchange(self.rt.clock, vendor.name, "lookup"):
                reports = vendor.read_answer(
                    await self.rt.internet.send(request, deadline=DEADLINE)
                )
        except Exchange as error:
            return submit_outcome.unanswered(row, vendor, error, self.rt.clock.now(), self.rt.rng)
        return submit_outcome.looked_up(row, vendor, reports, self.rt.clock.now())

    def _record(self, tx: Tx, ended: list[Ending]) -> list[Verdict | None]:
        return submit_outcome.record(tx, self.rt.ledger, self.rt.rng, ended, self.rt.clock.now())
