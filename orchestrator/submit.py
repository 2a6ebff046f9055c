"""Submitting: a queued job becomes one the vendor has, once.

The intent is committed before the request leaves. Whatever happens then ends in one of four ways, and each knows what
to do next: not sent (send again), refused (for good, or queue again), accepted, cut off (find out before sending
again). A lease that ran out in `submitting` is a cut-off nobody saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from orchestrator import claims
from orchestrator.clock import SUBMIT_SCHEDULE, after, grown, jittered, retry_delay
from orchestrator.decide import Heard
from orchestrator.errors import Blocked, Exchange, NotSent, Refused, Unsupported
from orchestrator.ledger import Postponed, Verdict
from orchestrator.report import Report
from orchestrator.runtime import Runtime, order_of
from orchestrator.states import JobState, Source
from orchestrator.store import Tx
from orchestrator.tables import account_state, job
from orchestrator.vendors import Lookup, Vendor
from orchestrator.workers import Claimed, Worker

Row = Mapping[Any, Any]

#: Seconds for one submission, connect to last byte. A claim lasts twice that and a margin.
DEADLINE = 30.0
LEASE = 75.0
#: Submissions under way at once in this process.
LIMIT = 64
#: Negative answers, spaced beyond the vendor's visibility lag, until a lost submission counts as not received.
NEGATIVES = 2
#: Tries with a credential that the vendor calls too young or too old; each is signed anew.
AUTH_TRIES = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """How one submission, or one question about a lost one, ended: what to note, and what to do with the job.

    Exactly one of `heard` (it moves), `queue` (back into the queue) and `later` (still in doubt) is set. `pause` asks
    for the account's lane to rest, for that many seconds or by our own schedule if 0.
    """

    row: Row
    kind: str
    note: Mapping[str, Any]
    heard: Heard | None = None
    queue: Postponed | None = None
    later: Postponed | None = None
    pause: float | None = None


def worker(rt: Runtime) -> Worker[Row]:
    """Return the loop that submits."""
    stage = Submitting(rt)
    return Worker("submit", limit=LIMIT, take=stage.take, work=stage.work, give_back=stage.give_back)


class Submitting:
    """The stage, over one runtime."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self._end = rt.store.batched(self._record)

    async def take(self, room: int) -> Claimed[Row]:
        """Claim lost submissions, then as many queued jobs as their accounts have free slots for."""
        return await self.rt.store.write(self._claim, room)

    def _claim(self, tx: Tx, room: int) -> Claimed[Row]:
        now = self.rt.clock.now()
        lost = dict.fromkeys(self._lanes(tx, JobState.SUBMITTING), claims.QUANTUM)
        rows: list[Row] = list(claims.take_jobs(tx, JobState.SUBMITTING, lost, now, LEASE, room))
        limits = {
            name: self.rt.vendors[name].account.max_in_flight
            for name in self._lanes(tx, JobState.QUEUED)
            if len(rows) < room
        }
        quanta = {name: min(slots, claims.QUANTUM) for name, slots in claims.free_slots(tx, limits, now).items()}
        queued = claims.take_jobs(tx, JobState.QUEUED, quanta, now, LEASE, room - len(rows))
        rows += [row | {"fresh": True} for row in self.rt.ledger.begin(tx, queued)]
        return Claimed(rows, more=len(rows) >= min(room, claims.QUANTUM))

    def _lanes(self, tx: Tx, state: JobState) -> list[str]:
        found = claims.lanes(tx, job.c.account, self.rt.clock.now(), state)
        known = [name for name in found if name in self.rt.vendors]
        self.rt.rng.shuffle(known)
        return known

    async def give_back(self, rows: Sequence[Row]) -> None:
        """Return claims that were not begun: fresh ones to the queue, lost ones as they were."""
        now = self.rt.clock.now()
        for undo, fresh in ((self.rt.ledger.requeue, True), (self.rt.ledger.postpone, False)):
            held = [row for row in rows if bool(row.get("fresh")) is fresh]
            await self.rt.store.write(undo, [Postponed(row["id"], row["lease"], {"due_at": now}) for row in held])

    async def work(self, row: Row) -> None:
        """Submit a fresh job, or find out about a lost one, and record how that ended."""
        vendor = self.rt.vendors[row["account"]]
        ending = await (self._submit(row, vendor) if row.get("fresh") else self._find_out(row, vendor))
        verdict = await self.rt.insist(self._end, ending)
        self.rt.told([verdict] if verdict else [])
        if ending.queue is not None:
            self.rt.nudge("submit")

    async def _submit(self, row: Row, vendor: Vendor) -> Ending:
        try:
            request = vendor.submission(order_of(self.rt, row, vendor))
            response = await self.rt.submissions.send(request, deadline=DEADLINE)
            receipt = vendor.receipt(response)
        except Exchange as error:
            return self._ending(row, vendor, error)
        except Unsupported as error:
            # It was checked when the job was taken on; the configuration has changed since.
            return self._failed(row, Refused(error.why))
        told = receipt.report
        if told is None or told.state is None:
            told = Report(JobState.SUBMITTED, told.word if told else "")
        told = replace(told, vendor_task_id=receipt.vendor_task_id)
        note = {"outcome": "accepted", "vendor_task_id": receipt.vendor_task_id}
        return Ending(row, "submit", note, heard=Heard(row["id"], told, Source.SUBMIT))

    def _ending(self, row: Row, vendor: Vendor, error: Exchange) -> Ending:
        """Decide by the class of the error alone."""
        match error:
            case Blocked():
                return self._failed(row, Refused(str(error), code="vendor_unavailable"))
            case NotSent():
                return self._again(row, Refused(str(error), code="vendor_unavailable", retryable=True), error.kind)
            case Refused(duplicate=True) if row["attempt"] > 1:
                # An earlier attempt of ours arrived after all.
                return self._lost(row, vendor, error)
            case Refused(crowded=True):
                back = Postponed(row["id"], row["lease"], {"due_at": self.rt.clock.now()})
                return Ending(row, "submit", _told(error), queue=back, pause=error.retry_after or 0.0)
            case Refused(retryable=True):
                return self._again(row, error, error.kind)
            case Refused():
                return self._failed(row, error)
            case _:
                return self._lost(row, vendor, error)

    def _again(self, row: Row, error: Refused, outcome: str) -> Ending:
        """Queue the job again, later each time; when the schedule is used up, it has failed."""
        tries = row["tries"] + 1
        wait = retry_delay(SUBMIT_SCHEDULE, tries, self.rt.rng)
        if wait is None or (error.code == "vendor_auth" and tries >= AUTH_TRIES):
            return self._failed(row, error)
        due = after(self.rt.clock.now(), max(wait, error.retry_after or 0))
        back = Postponed(row["id"], row["lease"], {"due_at": due, "tries": tries})
        return Ending(row, "submit", _told(error) | {"outcome": outcome}, queue=back)

    def _failed(self, row: Row, error: Refused) -> Ending:
        report = Report(JobState.FAILED, message=str(error), vendor_code=error.vendor_code)
        heard = Heard(row["id"], report, Source.SUBMIT, code=error.code, lease=row["lease"])
        return Ending(row, "submit", _told(error), heard=heard)

    # -- a lost submission

    def _lost(self, row: Row, vendor: Vendor, error: Exchange) -> Ending:
        """The vendor may have it. Come back when it can be known."""
        poll = vendor.account.poll
        waits = {Lookup.BY_EXTERNAL_ID: poll.visibility_lag, Lookup.BY_KEY: 1.0, Lookup.NONE: poll.lost_after}
        return self._later(row, waits[vendor.lookup], _told(error), misses=int(vendor.lookup is Lookup.NONE))

    def _later(self, row: Row, wait: float, note: Mapping[str, Any], *, misses: int, kind: str = "submit") -> Ending:
        due = after(self.rt.clock.now(), wait)
        return Ending(row, kind, note, later=Postponed(row["id"], row["lease"], {"due_at": due, "misses": misses}))

    async def _find_out(self, row: Row, vendor: Vendor) -> Ending:
        if vendor.lookup is Lookup.BY_EXTERNAL_ID:
            return await self._look_up(row, vendor)
        if vendor.lookup is Lookup.BY_KEY:
            return self._resend(row, {"outcome": "resend"})
        if not row["misses"]:
            # The process died while it submitted. Give a push the time to tell.
            wait = max(vendor.account.poll.lost_after - LEASE, 1.0)
            return self._later(row, wait, {"outcome": "waiting_for_push"}, misses=1)
        if vendor.account.at_least_once:
            return self._resend(row, {"outcome": "resend"})
        words = "the submission's answer was lost and no push came: it may have been rendered; look there, then retry"
        return self._failed(row, Refused(words, code="submit_unknown"))

    async def _look_up(self, row: Row, vendor: Vendor) -> Ending:
        """Ask for the external id. Found: adopt it. Not found twice, spaced: it never arrived, send it again."""
        lag = vendor.account.poll.visibility_lag
        try:
            request = vendor.lookup_request(order_of(self.rt, row, vendor))
            reports = vendor.read_answer(await self.rt.internet.send(request, deadline=DEADLINE))
        except Exchange as error:
            return self._later(row, jittered(lag, self.rt.rng), _told(error), misses=row["misses"], kind="lookup")
        if reports:
            found = reports[0]
            found = replace(found, state=found.state or JobState.SUBMITTED)
            note = {"outcome": "found", "vendor_task_id": found.vendor_task_id}
            return Ending(row, "lookup", note, heard=Heard(row["id"], found, Source.LOOKUP))
        misses = row["misses"] + 1
        if misses >= NEGATIVES:
            return self._resend(row, {"outcome": "not_found"}, kind="lookup")
        return self._later(row, lag, {"outcome": "not_found"}, misses=misses, kind="lookup")

    def _resend(self, row: Row, note: Mapping[str, Any], kind: str = "submit") -> Ending:
        back = Postponed(row["id"], row["lease"], {"due_at": self.rt.clock.now(), "misses": 0})
        return Ending(row, kind, note, queue=back)

    # -- recording

    def _record(self, tx: Tx, endings: list[Ending]) -> list[Verdict | None]:
        ledger, now = self.rt.ledger, self.rt.clock.now()
        notes = [(e.row["id"], e.kind, {"attempt": e.row["attempt"], **e.note}) for e in endings]
        ledger.note(tx, notes, now)
        ledger.requeue(tx, [e.queue for e in endings if e.queue])
        ledger.postpone(tx, [e.later for e in endings if e.later])
        for account, asked in {e.row["account"]: e.pause for e in endings if e.pause is not None}.items():
            self._pause(tx, account, asked)
        accepted = {e.row["account"] for e in endings if e.note.get("outcome") == "accepted"}
        if accepted:
            crowded = sa.and_(account_state.c.account.in_(accepted), account_state.c.crowded > 0)
            tx.execute(sa.update(account_state).where(crowded).values(crowded=0))
        verdicts = iter(ledger.apply(tx, [e.heard for e in endings if e.heard]))
        return [next(verdicts) if e.heard else None for e in endings]

    def _pause(self, tx: Tx, account: str, asked: float) -> None:
        """Let an account rest: at least a second, longer each time (Kling's page on concurrency)."""
        mine = account_state.c.account == account
        crowded = tx.scalar(sa.select(account_state.c.crowded).where(mine)) or 0
        wait = max(asked, grown(1.0, crowded, factor=2.0, most=60.0))
        until = after(self.rt.clock.now(), jittered(wait, self.rt.rng))
        tx.execute(sa.update(account_state).where(mine).values(paused_until=until, crowded=crowded + 1))


def _told(error: Exchange) -> dict[str, Any]:
    return {"outcome": error.kind, "reason": str(error)}
