"""Asking: only about jobs whose vendor has been silent for too long, many in one question where the dialect can.

The answer goes into the same ledger as a push. Subscribers cannot tell the difference, except that `resolved_by` says
so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from orchestrator.database import queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job
from orchestrator.engine.runtime import Runtime, order_of
from orchestrator.engine.worker import Claimed, Worker
from orchestrator.foundation.clock import after, grown, jittered
from orchestrator.foundation.errors import Exchange, Refused, Unsupported
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.ledger import ApplyResult, Reschedule
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.report import Report

Row = Mapping[Any, Any]

log = structlog.get_logger()

#: Seconds for one question. A claim lasts twice that and a margin.
DEADLINE = 20.0
LEASE = 50.0
#: Questions under way at once in this process.
LIMIT = 32
#: Jobs one sweep of the deadlines looks at.
SWEEP = 500


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """Jobs of one account that one request asks about."""

    vendor: Vendor
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What came of a question: what was heard of some jobs, when to come back to the others, what to note on each."""

    account: str
    notes: Sequence[tuple[str, str, Mapping[str, Any]]]
    heard: Sequence[ReportEvent]
    later: Sequence[Reschedule]
    #: Jobs the vendor was asked about.
    asked: int


def worker(runtime: Runtime) -> Worker[StatusQuery]:
    """Return the loop that asks."""
    stage = Poller(runtime)
    return Worker("poll", limit=LIMIT, take=stage.take, work=stage.work, give_back=stage.give_back)


#: What asking about a job came to, for those who count, by the outcome that is noted; any other word is the vendor's.
_RESULTS = {"not_found": "not_found", "cannot_be_asked": "cannot_be_asked"} | dict.fromkeys(
    (
        "not_sent",
        "blocked_address",
        "too_late",
        "timeout",
        "refused",
        "cut_off",
        "too_large",
        "error",
    ),
    "unanswered",
)


class Poller:
    """The stage, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._end = runtime.store.batched(self._record)

    async def take(self, room: int) -> Claimed[StatusQuery]:
        """Claim jobs about which silence has become suspicious, and make questions of them."""
        return await self.runtime.store.claim(self._claim, room)

    def _claim(self, tx: Tx, room: int) -> Claimed[StatusQuery]:
        now, questions = self.runtime.clock.now(), list[StatusQuery]()
        for state in (JobState.SUBMITTED, JobState.PROCESSING):
            found = queue.lanes(tx, job.c.account, now, state)
            known = [name for name in found if name in self.runtime.vendors]
            self.runtime.rng.shuffle(known)
            for name in known:
                vendor, free = self.runtime.vendors[name], room - len(questions)
                quantum = min(free, queue.QUANTUM) * vendor.batch
                rows = queue.take_jobs(tx, state, {name: quantum}, now, LEASE, quantum)
                questions += _queries(vendor, rows)
        return Claimed(questions, more=len(questions) >= min(room, queue.QUANTUM))

    async def give_back(self, questions: Sequence[StatusQuery]) -> None:
        """Make jobs due again whose questions were not asked."""
        due = {"due_at": self.runtime.clock.now()}
        held = [Reschedule.of(row, due) for question in questions for row in question.rows]
        await self.runtime.store.claim(self.runtime.ledger.postpone, held)

    async def work(self, question: StatusQuery) -> None:
        """Ask, and record the answer or the lack of one."""
        try:
            request = self._request(question)
            with self.runtime.metrics.exchange(self.runtime.clock, question.vendor.name, "inquiry"):
                response = await self.runtime.http_client.send(
                    request, deadline=DEADLINE, cap=1 << 20
                )
                reports = question.vendor.read_answer(response)
            answer = self._answered(question, reports)
        except Exchange as error:
            answer = self._unanswered(question, error)
        except Unsupported as error:
            answer = self._unasked(question, error)
        for _, _, note in answer.notes:
            self.runtime.metrics.polls(
                question.vendor.name, _RESULTS.get(str(note["outcome"]), "answered")
            ).inc()
        verdicts = await self.runtime.record_with_retry(self._end, answer)
        self.runtime.announce(verdicts)

    def _request(self, question: StatusQuery) -> Any:
        orders = [order_of(self.runtime, row, question.vendor) for row in question.rows]
        if orders[0].vendor_task_id is None:
            return question.vendor.lookup_request(orders[0])
        return question.vendor.inquiry(orders)

    def _answered(self, question: StatusQuery, reports: Sequence[Report]) -> QueryResult:
        """Match reports to jobs by id, never by position; a job without one is not known yet, or no more."""
        by_task = {report.vendor_task_id: report for report in reports if report.vendor_task_id}
        by_external = {
            report.external_task_id: report for report in reports if report.external_task_id
        }
        heard, later, notes = (
            list[ReportEvent](),
            list[Reschedule](),
            list[tuple[str, str, Mapping[str, Any]]](),
        )
        for row in question.rows:
            report = by_task.get(row["vendor_task_id"]) or by_external.get(row["external_task_id"])
            if report is None and len(question.rows) == len(reports) == 1:
                report = reports[0]
            notes.append((row["id"], "poll", {"outcome": report.word if report else "not_found"}))
            if report is not None:
                heard.append(ReportEvent(row["id"], report, Source.POLL))
            elif (gone := self._gone(row, question.vendor)) is not None:
                heard.append(gone)
            else:
                later.append(self._later(row, question.vendor, {"misses": row["misses"] + 1}))
        return QueryResult(question.vendor.account.name, notes, heard, later, asked=len(notes))

    def _gone(self, row: Row, vendor: Vendor) -> ReportEvent | None:
        """Return the failure of a job that the vendor has not known for longer than it may take to show a task."""
        since = row["submitted_at"] or row["created_at"]
        if row["misses"] < 2 or self.runtime.clock.now() < after(
            since, vendor.account.poll.lost_after
        ):
            return None
        return ReportEvent(
            row["id"], Report(JobState.FAILED, message="the vendor knows no such task"), Source.POLL
        )

    def _unanswered(self, question: StatusQuery, error: Exchange) -> QueryResult:
        """The question got no answer: ask again, later each time."""
        name, jobs = question.vendor.account.name, len(question.rows)
        log.warning(
            "a question got no answer",
            account=name,
            jobs=jobs,
            outcome=error.kind,
            reason=str(error),
        )
        wait = (error.retry_after if isinstance(error, Refused) else None) or 0.0
        notes = [
            (row["id"], "poll", {"outcome": error.kind, "reason": str(error)})
            for row in question.rows
        ]
        later = [self._later(row, question.vendor, {}, wait) for row in question.rows]
        return QueryResult(name, notes, self._overdue(question), later, asked=len(notes))

    def _unasked(self, question: StatusQuery, error: Unsupported) -> QueryResult:
        """There is nothing to ask by: the answer with the task's id was lost. Only a push can tell, or the deadline."""
        notes = [
            (row["id"], "submit", {"outcome": "cannot_be_asked", "reason": error.why})
            for row in question.rows
        ]
        later = [
            Reschedule.of(row, {"due_at": self._patience(row, question.vendor)})
            for row in question.rows
        ]
        return QueryResult(
            question.vendor.account.name, notes, self._overdue(question), later, asked=0
        )

    def _patience(self, row: Row, vendor: Vendor) -> datetime:
        since: datetime | None = row["outputless_since"]
        deadline: datetime = row["deadline_at"]
        return (
            deadline
            if since is None
            else min(deadline, after(since, vendor.account.poll.output_grace))
        )

    def _overdue(self, question: StatusQuery) -> list[ReportEvent]:
        """Return the end of those that succeeded without output too long ago, although nobody answers about them."""
        grace, now = question.vendor.account.poll.output_grace, self.runtime.clock.now()
        rows = [row for row in question.rows if row["outputless_since"] is not None]
        late = [row["id"] for row in rows if now >= after(row["outputless_since"], grace)]
        return [ReportEvent(job_id, Report(JobState.SUCCEEDED), Source.CLOCK) for job_id in late]

    def _later(
        self, row: Row, vendor: Vendor, values: Mapping[str, Any], least: float = 0.0
    ) -> Reschedule:
        poll = vendor.account.poll
        wait = max(least, grown(poll.interval, row["asks"], factor=1.5, most=poll.max_interval))
        due = after(self.runtime.clock.now(), jittered(wait, self.runtime.rng, 0.1))
        return Reschedule.of(row, {"due_at": due, "asks": row["asks"] + 1, **values})

    def _record(self, tx: Tx, answers: list[QueryResult]) -> list[list[ApplyResult]]:
        ledger = self.runtime.ledger
        ledger.note(
            tx, [note for answer in answers for note in answer.notes], self.runtime.clock.now()
        )
        asked = Counter({answer.account: 0 for answer in answers})
        for answer in answers:
            asked[answer.account] += answer.asked
        for account, count in sorted(asked.items()):
            more = account_state.c.polls + count
            tx.execute(
                sa.update(account_state)
                .where(account_state.c.account == account)
                .values(polls=more)
            )
        ledger.postpone(tx, [one for answer in answers for one in answer.later])
        verdicts = iter(ledger.apply(tx, [one for answer in answers for one in answer.heard]))
        return [[next(verdicts) for _ in answer.heard] for answer in answers]


def _queries(vendor: Vendor, rows: Sequence[Row]) -> list[StatusQuery]:
    """Return the questions that ask about these jobs. One whose task id we never learned is asked by our own id."""
    known = [row for row in rows if row["vendor_task_id"] is not None]
    alone = [row for row in rows if row["vendor_task_id"] is None]
    chunks = [known[start : start + vendor.batch] for start in range(0, len(known), vendor.batch)]
    return [StatusQuery(vendor, chunk) for chunk in [*chunks, *([row] for row in alone)]]


async def expire(runtime: Runtime) -> None:
    """Give up on live jobs whose deadline has passed, and say so. The vendor's verdict may still overtake this."""
    now = runtime.clock.now()
    while overdue := await runtime.store.read(runtime.ledger.overdue, now, SWEEP):
        late = [ReportEvent(job_id, Report(JobState.EXPIRED), Source.CLOCK) for job_id in overdue]
        # Together they share a few commits; one after the other, many deadlines at once would wait for as many.
        await asyncio.gather(*(runtime.apply_report(one) for one in late))
        if len(overdue) < SWEEP:
            return
