"""Poll: status queries about jobs whose vendor has been silent for too long.

One request asks about many jobs where the dialect allows it. The answer goes through the same
ledger as a push: subscribers see no difference but `resolved_by`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

import httpx
import sqlalchemy as sa
import structlog

from orchestrator.database import queue
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state, job
from orchestrator.database.tables.rows import JobRow
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.claims import permit
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.worker import Claimed, record_with_retry
from orchestrator.foundation import off_loop
from orchestrator.foundation.clock import Clock, Rng, after, backoff, jittered
from orchestrator.foundation.errors import Exchange, Refused, TooLate, Unsupported
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import holds
from orchestrator.jobs.capacity import lock_accounts
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import ApplyResult, Ledger, Note, Reschedule
from orchestrator.jobs.orders import OrderBuilder
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.report import Report

log = structlog.get_logger()

#: Seconds of a lease beyond the `answer_timeout` of its account, for the record of the result.
LEASE_MARGIN = 30.0
#: Seconds by which a job may be asked about early if a query about others has room for it.
EARLY = 15.0
#: Status queries in progress at the same time in this process.
LIMIT = 32


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """The jobs of one account that one request asks about."""

    vendor: Vendor
    rows: Sequence[JobRow]


@dataclass(slots=True)
class QueryResult:
    """The result of a status query: reports, jobs to ask about later, notes for histories."""

    account: str
    #: Jobs that the vendor was asked about.
    asked: int
    notes: list[Note] = field(default_factory=list)
    reports: list[ReportEvent] = field(default_factory=list)
    later: list[Reschedule] = field(default_factory=list)
    #: Jobs to ask about later that the vendor does not know, for the second time.
    stuck: list[Reschedule] = field(default_factory=list)
    #: When the vendor was asked, if it answered.
    sent_at: datetime | None = None


_UNANSWERED = (
    "not_sent", "blocked_address", "too_late", "timeout", "refused", "cut_off", "too_large",
    "error",
)  # fmt: skip
#: The metric label of a noted outcome. Any other outcome is a status word of the vendor.
_RESULTS = {"not_found": "not_found", "cannot_be_asked": "cannot_be_asked"}
_RESULTS |= dict.fromkeys(_UNANSWERED, "unanswered")
#: Answers in a row that a vendor knows no such task, after which a job is stuck.
MISSES = 2


def lease_of(vendor: Vendor) -> float:
    """Return the seconds for which a status query is claimed."""
    return vendor.account.answer_timeout + LEASE_MARGIN


@dataclass(kw_only=True)
class Poller:
    """The stage that asks vendors about silent jobs."""

    store: Store
    ledger: Ledger
    learning: Learning
    vendors: Mapping[str, Vendor]
    orders: OrderBuilder
    http_client: HttpClient
    ids: Ids
    clock: Clock
    rng: Rng
    metrics: Metrics
    notifier: Notifier

    def __post_init__(self) -> None:
        self._save = self.store.batched(self._record)

    async def take(self, room: int) -> Claimed[StatusQuery]:
        """Claim jobs whose silence has become suspicious, and group them into status queries."""
        return await self.store.claim(self._claim, room)

    def _claim(self, tx: Tx, room: int) -> Claimed[StatusQuery]:
        now, queries = self.clock.now(), list[StatusQuery]()
        by = self.store.membership.number
        if by is None:
            return Claimed()
        for state in (JobState.SUBMITTED, JobState.PROCESSING):
            lanes = queue.lanes(tx, job.c.account, now, state)
            accounts = [name for name in lanes if name in self.vendors]
            self.rng.shuffle(accounts)
            for name in accounts:
                vendor = self.vendors[name]
                quantum = min(room - len(queries), queue.QUANTUM) * vendor.batch
                lease = lease_of(vendor)
                rows = queue.take_jobs(tx, state, {name: quantum}, now, lease, quantum, by)
                if places := -sum(row["vendor_task_id"] is not None for row in rows) % vendor.batch:
                    # They cost no request more.
                    rows += queue.take_jobs(
                        tx, state, {name: places}, now, lease, places, by, early=EARLY
                    )
                queries += _queries(vendor, rows)
        return Claimed(queries, more=len(queries) >= min(room, queue.QUANTUM))

    async def give_back(self, queries: Sequence[StatusQuery]) -> None:
        """Make the jobs of queries that were not sent due again."""
        due = {"due_at": self.clock.now()}
        held = [Reschedule.of(row, due) for query in queries for row in query.rows]
        await self.store.claim(self.ledger.postpone, held)

    async def work(self, query: StatusQuery) -> None:
        """Send a query and record its result."""
        vendor, asked_at = query.vendor, self.clock.now()
        try:
            request = self._request(query)
            # All rows of a query have one claim.
            request.extensions["may_leave"] = permit(
                query.rows[0], self.store.membership, self.clock, vendor.account.answer_timeout
            )
            with self.metrics.exchange(self.clock, vendor.name, "inquiry"):
                response = await self.http_client.send(
                    request, deadline=vendor.account.answer_timeout, body="answer"
                )
                account, size = vendor.account.name, len(response.content)
                reports = await off_loop.vendors.run(account, size, vendor.read_answer, response)
            result = self._answered(query, reports, asked_at)
        except TooLate:
            await self.give_back([query])
            return
        except Exchange as error:
            result = self._unanswered(query, error)
        except Unsupported as error:
            result = self._cannot_ask(query, error)
        self.learning.asked(query.rows if result.asked else ())
        for note in result.notes:
            label = _RESULTS.get(str(note.detail["outcome"]), "answered")
            self.metrics.polls(vendor.name, label).inc()
        results = await record_with_retry(self._save, result, self.clock, self.rng)
        self.notifier.announce(results)

    def _request(self, query: StatusQuery) -> httpx.Request:
        orders = [self.orders.without_input(row, query.vendor) for row in query.rows]
        if orders[0].vendor_task_id is None:
            return query.vendor.lookup_request(orders[0])
        return query.vendor.inquiry(orders)

    def _answered(
        self, query: StatusQuery, reports: Sequence[Report], asked_at: datetime
    ) -> QueryResult:
        """Match reports to jobs by id, never by position. A job without a report is not found."""
        by_task = {report.vendor_task_id: report for report in reports if report.vendor_task_id}
        by_external = {one.external_task_id: one for one in reports if one.external_task_id}
        result = QueryResult(query.vendor.account.name, asked=len(query.rows), sent_at=asked_at)
        for row in query.rows:
            report = by_task.get(row["vendor_task_id"] or "")
            report = report or by_external.get(row["external_task_id"])
            if report is None and len(query.rows) == len(reports) == 1:
                report = reports[0]
            outcome = report.word if report else "not_found"
            result.notes.append(Note(row["id"], "poll", {"outcome": outcome}))
            if report is not None:
                result.reports.append(ReportEvent(row["id"], report, Source.POLL))
            else:
                self._not_found(row, query.vendor, result, asked_at)
        return result

    def _not_found(
        self, row: JobRow, vendor: Vendor, result: QueryResult, asked_at: datetime
    ) -> None:
        """The vendor does not know a task: not yet, or no longer.

        Within `visibility_lag` that proves nothing. The second time beyond it the job is stuck, and
        with `MISSES` times before, it is lost once `lost_after` is over. What counts is when the
        vendor was asked: a process that was frozen since then has an old answer.
        """
        poll = vendor.account.poll
        since, misses = row["submitted_at"] or row["created_at"], row["misses"] + 1
        if asked_at < after(since, poll.visibility_lag):
            result.later.append(self._later(row, vendor, {}))
        elif misses > MISSES and asked_at >= after(since, poll.lost_after):
            gone = Report(JobState.FAILED, message="the vendor knows no such task")
            verdict = ReportEvent(row["id"], gone, Source.POLL, lease=row["lease"])
            result.reports.append(verdict)
        else:
            later = self._later(row, vendor, {"misses": misses})
            (result.stuck if misses == MISSES else result.later).append(later)

    def _unanswered(self, query: StatusQuery, error: Exchange) -> QueryResult:
        """The query got no answer: ask again, with a longer delay each time."""
        name, count = query.vendor.account.name, len(query.rows)
        detail = {"outcome": error.kind, "reason": str(error)}
        log.warning("a status query got no answer", account=name, jobs=count, **detail)
        wait = (error.retry_after if isinstance(error, Refused) else None) or 0.0
        return QueryResult(
            name,
            asked=count,
            notes=[Note(row["id"], "poll", detail) for row in query.rows],
            reports=self._overdue(query),
            later=[self._later(row, query.vendor, {}, wait) for row in query.rows],
        )

    def _cannot_ask(self, query: StatusQuery, error: Unsupported) -> QueryResult:
        """There is no id to ask by: the answer with it was lost.

        Wait for a push or the deadline.
        """
        detail = {"outcome": "cannot_be_asked", "reason": error.why}
        return QueryResult(
            query.vendor.account.name,
            asked=0,
            notes=[Note(row["id"], "submit", detail) for row in query.rows],
            reports=self._overdue(query),
            later=[
                Reschedule.of(row, {"due_at": _end_of_waiting(row, query.vendor)})
                for row in query.rows
            ],
        )

    def _overdue(self, query: StatusQuery) -> list[ReportEvent]:
        """Return failures of jobs without an output whose grace is over although no answer came."""
        grace, now = query.vendor.account.poll.output_grace, self.clock.now()
        return [
            ReportEvent(row["id"], Report(JobState.SUCCEEDED), Source.CLOCK)
            for row in query.rows
            if (since := row["outputless_since"]) is not None and now >= after(since, grace)
        ]

    def _later(
        self, row: JobRow, vendor: Vendor, values: Mapping[str, int], least: float = 0.0
    ) -> Reschedule:
        poll = vendor.account.poll
        wait = max(least, backoff(poll.interval, row["asks"], factor=1.5, most=poll.max_interval))
        due = after(self.clock.now(), jittered(wait, self.rng, 0.1))
        return Reschedule.of(row, {"due_at": due, "asks": row["asks"] + 1, **values})

    def _record(self, tx: Tx, results: list[QueryResult]) -> list[list[ApplyResult]]:
        self.ledger.note(tx, [note for one in results for note in one.notes], self.clock.now())
        asked = Counter({one.account: 0 for one in results})
        for one in results:
            asked[one.account] += one.asked
        reports = [report for one in results for report in one.reports]
        later = [later for one in results for later in one.later]
        stuck = [later for one in results for later in one.stuck]
        changed = [each.job_id for each in reports] + [each.job_id for each in later + stuck]
        self.ledger.lock(tx, changed)
        self.ledger.postpone(tx, later)
        marked = [self.ledger.mark_stuck(tx, one.stuck) for one in results]
        applied = iter(self.ledger.apply(tx, reports, asked))
        lock_accounts(tx, asked)
        owed = False
        for account, count in asked.items():
            sent = [one.sent_at for one in results if one.account == account and one.sent_at]
            owed |= self._count(tx, account, count, max(sent, default=None))
        return [
            [each._replace(owed=each.owed or owed) for each in (*found, *islice(applied, size))]
            for size, found in zip([len(one.reports) for one in results], marked, strict=True)
        ]

    def _count(self, tx: Tx, account: str, count: int, sent_at: datetime | None) -> bool:
        """Count the jobs that were asked about. A vendor that answers accepts the credentials.

        Return whether deliveries are due.
        """
        mine = sa.update(account_state).where(account_state.c.account == account)
        counted = mine.values(polls=account_state.c.polls + count)
        held_since = tx.scalar(counted.returning(account_state.c.held_since))
        if not (sent_at and held_since):
            return False
        return holds.answered(tx, self.ids, account, sent_at, self.clock.now(), Source.POLL)


def _end_of_waiting(row: JobRow, vendor: Vendor) -> datetime:
    since, deadline = row["outputless_since"], row["deadline_at"]
    if since is None:
        return deadline
    return min(deadline, after(since, vendor.account.poll.output_grace))


def _queries(vendor: Vendor, rows: Sequence[JobRow]) -> list[StatusQuery]:
    """Group jobs into status queries. A job without a vendor id is asked about by our id, alone."""
    known = [row for row in rows if row["vendor_task_id"] is not None]
    alone = [row for row in rows if row["vendor_task_id"] is None]
    chunks = [known[start : start + vendor.batch] for start in range(0, len(known), vendor.batch)]
    return [StatusQuery(vendor, chunk) for chunk in [*chunks, *([row] for row in alone)]]
