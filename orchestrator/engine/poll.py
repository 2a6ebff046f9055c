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
from orchestrator.jobs.ledger import Postponed, Verdict
from orchestrator.jobs.transition import Heard
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
class Question:
    """Jobs of one account that one request asks about."""

    vendor: Vendor
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question: what was heard of some jobs, when to come back to the others, what to note on each."""

    account: str
    notes: Sequence[tuple[str, str, Mapping[str, Any]]]
    heard: Sequence[Heard]
    later: Sequence[Postponed]
    #: Jobs the vendor was asked about.
    asked: int


def worker(rt: Runtime) -> Worker[Question]:
    """Return the loop that asks."""
    stage = Polling(rt)
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


class Polling:
    """The stage, over one runtime."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        self._end = rt.store.batched(self._record)

    async def take(self, room: int) -> Claimed[Question]:
        """Claim jobs about which silence has become suspicious, and make questions of them."""
        return await self.rt.store.claim(self._claim, room)

    def _claim(self, tx: Tx, room: int) -> Claimed[Question]:
        now, questions = self.rt.clock.now(), list[Question]()
        for state in (JobState.SUBMITTED, JobState.PROCESSING):
            found = queue.lanes(tx, job.c.account, now, state)
            known = [name for name in found if name in self.rt.vendors]
            self.rt.rng.shuffle(known)
            for name in known:
                vendor, free = self.rt.vendors[name], room - len(questions)
                quantum = min(free, queue.QUANTUM) * vendor.batch
                rows = queue.take_jobs(tx, state, {name: quantum}, now, LEASE, quantum)
                questions += _questions(vendor, rows)
        return Claimed(questions, more=len(questions) >= min(room, queue.QUANTUM))

    async def give_back(self, questions: Sequence[Question]) -> None:
        """Make jobs due again whose questions were not asked."""
        due = {"due_at": self.rt.clock.now()}
        held = [Postponed.of(row, due) for question in questions for row in question.rows]
        await self.rt.store.claim(self.rt.ledger.postpone, held)

    async def work(self, question: Question) -> None:
        """Ask, and record the answer or the lack of one."""
        try:
            request = self._request(question)
            with self.rt.metrics.exchange(self.rt.clock, question.vendor.name, "inquiry"):
                response = await self.rt.internet.send(request, deadline=DEADLINE, cap=1 << 20)
                reports = question.vendor.read_answer(response)
            answer = self._answered(question, reports)
        except Exchange as error:
            answer = self._unanswered(question, error)
        except Unsupported as error:
            answer = self._unasked(question, error)
        for _, _, note in answer.notes:
            self.rt.metrics.polls(
                question.vendor.name, _RESULTS.get(str(note["outcome"]), "answered")
            ).inc()
        verdicts = await self.rt.insist(self._end, answer)
        self.rt.told(verdicts)

    def _request(self, question: Question) -> Any:
        orders = [order_of(self.rt, row, question.vendor) for row in question.rows]
        if orders[0].vendor_task_id is None:
            return question.vendor.lookup_request(orders[0])
        return question.vendor.inquiry(orders)

    def _answered(self, question: Question, reports: Sequence[Report]) -> Answer:
        """Match reports to jobs by id, never by position; a job without one is not known yet, or no more."""
        by_task = {report.vendor_task_id: report for report in reports if report.vendor_task_id}
        by_external = {
            report.external_task_id: report for report in reports if report.external_task_id
        }
        heard, later, notes = (
            list[Heard](),
            list[Postponed](),
            list[tuple[str, str, Mapping[str, Any]]](),
        )
        for row in question.rows:
            report = by_task.get(row["vendor_task_id"]) or by_external.get(row["external_task_id"])
            if report is None and len(question.rows) == len(reports) == 1:
                report = reports[0]
            notes.append((row["id"], "poll", {"outcome": report.word if report else "not_found"}))
            if report is not None:
                heard.append(Heard(row["id"], report, Source.POLL))
            elif (gone := self._gone(row, question.vendor)) is not None:
                heard.append(gone)
            else:
                later.append(self._later(row, question.vendor, {"misses": row["misses"] + 1}))
        return Answer(question.vendor.account.name, notes, heard, later, asked=len(notes))

    def _gone(self, row: Row, vendor: Vendor) -> Heard | None:
        """Return the failure of a job that the vendor has not known for longer than it may take to show a task."""
        since = row["submitted_at"] or row["created_at"]
        if row["misses"] < 2 or self.rt.clock.now() < after(since, vendor.account.poll.lost_after):
            return None
        return Heard(
            row["id"], Report(JobState.FAILED, message="the vendor knows no such task"), Source.POLL
        )

    def _unanswered(self, question: Question, error: Exchange) -> Answer:
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
        return Answer(name, notes, self._overdue(question), later, asked=len(notes))

    def _unasked(self, question: Question, error: Unsupported) -> Answer:
        """There is nothing to ask by: the answer with the task's id was lost. Only a push can tell, or the deadline."""
        notes = [
            (row["id"], "submit", {"outcome": "cannot_be_asked", "reason": error.why})
            for row in question.rows
        ]
        later = [
            Postponed.of(row, {"due_at": self._patience(row, question.vendor)})
            for row in question.rows
        ]
        return Answer(question.vendor.account.name, notes, self._overdue(question), later, asked=0)

    def _patience(self, row: Row, vendor: Vendor) -> datetime:
        since: datetime | None = row["outputless_since"]
        deadline: datetime = row["deadline_at"]
        return (
            deadline
            if since is None
            else min(deadline, after(since, vendor.account.poll.output_grace))
        )

    def _overdue(self, question: Question) -> list[Heard]:
        """Return the end of those that succeeded without output too long ago, although nobody answers about them."""
        grace, now = question.vendor.account.poll.output_grace, self.rt.clock.now()
        rows = [row for row in question.rows if row["outputless_since"] is not None]
        late = [row["id"] for row in rows if now >= after(row["outputless_since"], grace)]
        return [Heard(job_id, Report(JobState.SUCCEEDED), Source.CLOCK) for job_id in late]

    def _later(
        self, row: Row, vendor: Vendor, values: Mapping[str, Any], least: float = 0.0
    ) -> Postponed:
        poll = vendor.account.poll
        wait = max(least, grown(poll.interval, row["asks"], factor=1.5, most=poll.max_interval))
        due = after(self.rt.clock.now(), jittered(wait, self.rt.rng, 0.1))
        return Postponed.of(row, {"due_at": due, "asks": row["asks"] + 1, **values})

    def _record(self, tx: Tx, answers: list[Answer]) -> list[list[Verdict]]:
        ledger = self.rt.ledger
        ledger.note(tx, [note for answer in answers for note in answer.notes], self.rt.clock.now())
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


def _questions(vendor: Vendor, rows: Sequence[Row]) -> list[Question]:
    """Return the questions that ask about these jobs. One whose task id we never learned is asked by our own id."""
    known = [row for row in rows if row["vendor_task_id"] is not None]
    alone = [row for row in rows if row["vendor_task_id"] is None]
    chunks = [known[start : start + vendor.batch] for start in range(0, len(known), vendor.batch)]
    return [Question(vendor, chunk) for chunk in [*chunks, *([row] for row in alone)]]


async def expire(rt: Runtime) -> None:
    """Give up on live jobs whose deadline has passed, and say so. The vendor's verdict may still overtake this."""
    now = rt.clock.now()
    while overdue := await rt.store.read(rt.ledger.overdue, now, SWEEP):
        late = [Heard(job_id, Report(JobState.EXPIRED), Source.CLOCK) for job_id in overdue]
        # Together they share a few commits; one after the other, many deadlines at once would wait for as many.
        await asyncio.gather(*(rt.hear(one) for one in late))
        if len(overdue) < SWEEP:
            return
