"""The ledger: the only writer of job state.

Pushes, status queries, submit answers, the clock and operators all end in `apply`. The event and
its deliveries are written in the transaction that moves the job (transactional outbox), so the
loser of a race changes nothing and no event is published twice. Every unit of work takes a list: a
hundred reports cost the statements of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, bulk_insert, bulk_update, one_of
from orchestrator.database.statements import Statement
from orchestrator.database.store import Tx
from orchestrator.database.tables import event, job, trace
from orchestrator.database.tables.rows import JobRow, fetch
from orchestrator.events import subscriptions
from orchestrator.events.outbox import Claim, NewEvent, publish
from orchestrator.events.subscriptions import Subscriptions
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.settings.accounts import Poll
from orchestrator.foundation.states import AT_VENDOR, EventType, JobState, Source
from orchestrator.jobs import push_health
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.push_health import PushHealth
from orchestrator.jobs.query_schedule import QueryColumns, next_query
from orchestrator.jobs.transition import JobChanges, ReportEvent, ReportOutcome, decide
from orchestrator.schemas.jobs import job_json
from orchestrator.vendors.contract import Vendor


class ApplyResult(NamedTuple):
    """The effect of one report: its outcome, and the job after all of them (None: there is none).

    `moved`: the state it moved the job to. `ours`: it was a verdict of ours, not the vendor's.
    `owed`: its transaction left deliveries due that are not claimed.
    """

    outcome: ReportOutcome
    job: JobRow | None
    moved: JobState | None = None
    ours: bool = False
    owed: bool = False


class Note(NamedTuple):
    """An entry of a job's history that no other table holds. `kind`: submit, poll or operator."""

    job_id: str
    kind: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reschedule:
    """New values for a claimed job, fenced by its lease and its version.

    It changes nothing once another claim has taken the job or a report has changed it: whatever
    changed the job has set a due time that fits. Example: waiting for the deadline because the task
    has no id is wrong as soon as it has one.
    """

    job_id: str
    lease: int
    version: int
    values: Mapping[str, Any]

    @staticmethod
    def of(row: JobRow, values: Mapping[str, Any]) -> Reschedule:
        """Return the rescheduling of a claimed row."""
        return Reschedule(row["id"], row["lease"], row["version"], values)


class _Queried(QueryColumns):
    """When a job was queried, and when it is due."""

    id: str
    account: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a transaction has asked for, to apply reports: see `statements.ask`.

    `accounts` are those whose push health was asked for.
    """

    jobs: Callable[[], list[list[Any]]]
    accounts: Collection[str]
    health: Callable[[], dict[str, PushHealth]]
    subscriptions: Callable[[], Subscriptions]


@dataclass(slots=True)
class _ApplyBatch:
    """The state of one call of `apply`: jobs, vendor ids in use, accounts whose pushes stopped."""

    now: datetime
    rows: dict[str, JobRow]
    used: set[tuple[str, str]]
    degraded: frozenset[str]
    events: list[NewEvent] = field(default_factory=list)
    #: Jobs that changed, and those of them that got a vendor id.
    changed: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def normalize(self, row: JobRow, vendor: Vendor | None, changes: JobChanges) -> None:
        """Make changes fit to be written."""
        if "vendor_task_id" in changes:
            key = (row["account"], changes["vendor_task_id"])
            if key in self.used:
                # One vendor id for two jobs is a fault of the vendor. Its pushes still find their
                # job by token.
                del changes["vendor_task_id"]
            self.used.add(key)
        due = changes.get("due_at")
        if due is not None and vendor is not None and row["account"] in self.degraded:
            # Pushes have stopped, so silence means nothing: the next status query comes sooner.
            changes["due_at"] = min(due, after(self.now, vendor.account.poll.interval))


class Ledger:
    """Job state, and everything that changes with it. All methods are units of work."""

    def __init__(
        self,
        vendors: Mapping[str, Vendor],
        ids: Ids,
        clock: Clock,
        base_url: str,
        learning: Learning,
    ) -> None:
        self._vendors = vendors
        self._learning = learning
        self._ids = ids
        self._clock = clock
        self._base = base_url

    # -- submitting

    def begin(self, tx: Tx, claimed: Sequence[JobRow]) -> list[JobRow]:
        """Record the intent to submit claimed jobs, before any request leaves.

        So a push never meets an unknown job. A job whose deadline has passed is left to expire: its
        caller no longer waits, and a render costs money.
        """
        now = self._clock.now()
        if not claimed:
            return []
        rows = _BEGIN.rows(tx, JobRow, {"ids": [row["id"] for row in claimed], "now": now})
        notes = [
            Note(row["id"], "submit", {"attempt": row["attempt"], "outcome": "begun"})
            for row in rows
        ]
        self.note(tx, notes, now)
        return rows

    def requeue(self, tx: Tx, reschedules: Sequence[Reschedule]) -> None:
        """Queue submissions again that certainly did not happen. The only way back to `queued`."""
        for to in reschedules:
            mine = sa.and_(job.c.id == to.job_id, job.c.lease == to.lease)
            tx.execute(
                sa.update(job)
                .where(mine, job.c.state == JobState.SUBMITTING)
                .values(state=JobState.QUEUED, version=job.c.version + 1, **to.values)
            )

    def lock(self, tx: Tx, job_ids: Iterable[str]) -> None:
        """Lock the jobs that a unit of work changes by several statements, in order of their ids.

        A fixed order avoids deadlocks between the writers of PostgreSQL. SQLite has one writer.
        """
        if tx.dialect.name == "postgresql":
            _LOCK(tx, sorted(set(job_ids)))

    # -- reports

    def ask(self, tx: Tx, reports: Sequence[ReportEvent], accounts: Collection[str] = ()) -> Asked:
        """Lock the jobs of reports, and ask for what `apply` needs of them and of `accounts`."""
        jobs = _FIND.ask(tx, sorted({report.job_id for report in reports}))
        health = push_health.ask(tx, accounts)
        return Asked(jobs, accounts, health, subscriptions.ask(tx))

    def apply(
        self,
        tx: Tx,
        reports: Sequence[ReportEvent],
        accounts: Collection[str] = (),
        asked: Asked | None = None,
        claim: Claim | None = None,
    ) -> list[ApplyResult]:
        """Apply reports in order, as far as rank allows, and publish an event for every move.

        `accounts` are those whose state the caller changes afterwards, in the same transaction.
        `claim` claims the deliveries of the events.
        """
        now = self._clock.now()
        if not reports:
            return []
        asked = asked or self.ask(tx, reports, accounts)
        found = asked.jobs()
        rows = {row[0]: cast(JobRow, dict(zip(_COLUMNS, row, strict=True))) for row in found}
        before = {job_id: row["version"] for job_id, row in rows.items()}
        others = {row["account"] for row in rows.values()}.difference(asked.accounts)
        health = asked.health() | push_health.ask(tx, others)()
        degraded = frozenset(account for account, state in health.items() if state["degraded"])
        batch = _ApplyBatch(now, rows, self._used_ids(tx, rows, reports), degraded)
        results = [self._apply(batch, report) for report in reports]
        self._save(tx, batch, before)
        moves = [(result.job, result.moved) for result in results]
        learned = self._learning.learned
        notices = push_health.track(
            tx, health, self._vendors, learned, reports, moves, accounts, now
        )
        owed = publish(tx, self._ids, batch.events + notices, now, asked.subscriptions, claim)
        return [result._replace(owed=True) for result in results] if owed else results

    def _apply(self, batch: _ApplyBatch, report: ReportEvent) -> ApplyResult:
        row = batch.rows.get(report.job_id)
        if row is None:
            return ApplyResult(ReportOutcome.NO_JOB, None)
        vendor = self._vendors.get(row["account"])
        expected = self._learning.learned.expected(
            row, vendor, degraded=row["account"] in batch.degraded
        )
        transition = decide(row, report, vendor, batch.now, expected)
        late = row["state"] == JobState.EXPIRED
        changes = transition.changes.copy()
        batch.normalize(row, None if expected else vendor, changes)
        news = {name for name, value in changes.items() if row[name] != value}  # type: ignore[literal-required]
        if not news:
            return ApplyResult(transition.outcome, row)
        row.update(changes)  # type: ignore[typeddict-item]
        if "due_at" in news:
            row["claimed_by"] = None
        # Our own schedule is no change that a waiting caller should be woken for.
        row["version"] += not news <= _INVISIBLE
        batch.changed.add(row["id"])
        if "vendor_task_id" in news:
            batch.named.add(row["id"])
        if transition.moved is not None:
            row["sequence"] += 1
            data = job_json(row, self._base)
            kind = _EVENT_TYPES[transition.moved]
            batch.events.append(
                NewEvent(kind, report.source, data, row["sequence"], row, late=late)
            )
        ours = report.lease is not None
        return ApplyResult(transition.outcome, row, transition.moved, ours)

    def _used_ids(
        self, tx: Tx, rows: Mapping[str, JobRow], reports: Sequence[ReportEvent]
    ) -> set[tuple[str, str]]:
        """Return which of the vendor ids that the reports bring already belong to a job."""
        new = [
            task
            for report in reports
            if (task := report.report.vendor_task_id)
            and (row := rows.get(report.job_id))
            and not row["vendor_task_id"]
        ]
        return {(account, task) for account, task in _USED(tx, new)}

    def _save(self, tx: Tx, batch: _ApplyBatch, before: Mapping[str, int]) -> None:
        """Write changed rows, narrow columns only, guarded by the version that was read."""
        for statement, ids in ((_SAVE, batch.changed - batch.named), (_SAVE_NAMED, batch.named)):
            rows = [row for job_id, row in batch.rows.items() if job_id in ids]
            statement(
                tx, [{**row, "was_id": row["id"], "was_version": before[row["id"]]} for row in rows]
            )

    # -- schedule and history

    def postpone(self, tx: Tx, reschedules: Sequence[Reschedule]) -> None:
        """Set when claimed, live jobs are due again."""
        for to in reschedules:
            tx.execute(sa.update(job).where(_claimed(to)).values(**to.values))

    def mark_stuck(self, tx: Tx, reschedules: Sequence[Reschedule]) -> list[ApplyResult]:
        """Postpone claimed jobs that their vendor does not know, and publish `job.stuck` for each.

        A job has one such event, however often its vendor forgets it. The caller has locked them.
        """
        rows: list[JobRow] = []
        for to in reschedules:
            values = {"version": job.c.version + 1, "sequence": job.c.sequence + 1, **to.values}
            marked = sa.update(job).where(_claimed(to), ~_WAS_STUCK).values(**values)
            rows += fetch(tx, JobRow, marked.returning(job))
        # Changes nothing about the jobs that are marked: their version has moved on.
        self.postpone(tx, reschedules)
        kind, source = EventType.JOB_STUCK, Source.POLL
        events = [
            NewEvent(kind, source, job_json(row, self._base), row["sequence"], row) for row in rows
        ]
        owed = publish(tx, self._ids, events, self._clock.now())
        return [ApplyResult(ReportOutcome.STUCK, row, owed=owed) for row in rows]

    def poll_now(self, tx: Tx, job_ids: Sequence[str], now: datetime) -> None:
        """Make jobs due for a status query, unless they are claimed for one.

        Another process would claim them too, and two would send the query.
        """
        askable = sa.and_(job.c.id.in_(job_ids), job.c.state.in_(AT_VENDOR), job.c.due_at > now)
        tx.execute(sa.update(job).where(askable, job.c.claimed_by.is_(None)).values(due_at=now))

    def poll_soon(self, tx: Tx, job_ids: Iterable[str], now: datetime) -> None:
        """Make jobs due for a status query, at most one an interval: their pushes say nothing.

        A job that is claimed for one keeps its claim. The caller has locked the jobs.
        """
        ids, is_free = sorted(set(job_ids)), job.c.claimed_by.is_(None)
        wanted = sa.and_(job.c.id.in_(ids), job.c.state.in_(AT_VENDOR), is_free)
        for row in fetch(tx, _Queried, _QUERIED.where(wanted)):
            vendor = self._vendors.get(row["account"])
            due = next_query(row, vendor.account.poll if vendor else Poll(), now)
            if row["due_at"] is not None and due < row["due_at"]:
                tx.execute(sa.update(job).where(job.c.id == row["id"]).values(due_at=due))

    def overdue(self, tx: Tx, now: datetime, limit: int = 500) -> list[str]:
        """Return the ids of live jobs whose deadline has passed."""
        return list(tx.scalars(_OVERDUE, {"now": now, "limit": limit}))

    def note(self, tx: Tx, notes: Sequence[Note], now: datetime) -> None:
        """Add entries to the histories of jobs."""
        _NOTE(tx, [note._asdict() | {"at": now} for note in notes])


#: What a report may change. The wide columns (input, metadata) are written once, at creation. The
#: vendor's id is written apart: to write one that stays the same costs SQLite an index update.
MUTABLE = (
    "state", "vendor_status", "progress", "output", "error", "billing", "asks", "misses", "due_at",
    "claimed_by", "version", "sequence", "alive_at", "vendor_updated_at", "outputless_since",
    "submitted_at", "finished_at", "resolved_by",
)  # fmt: skip

#: The event type of a move to a state.
_EVENT_TYPES = {
    JobState(kind.removeprefix("job.")): kind
    for kind in EventType
    if kind.startswith("job.") and kind is not EventType.JOB_STUCK
}

#: Changes that do not make a new version of a job.
_INVISIBLE = {"due_at", "asks", "misses", "alive_at", "vendor_updated_at", "outputless_since"}


def _claimed(to: Reschedule) -> sa.ColumnElement[bool]:
    """Return the condition that a live job is still as it was claimed."""
    same = sa.and_(job.c.id == to.job_id, job.c.lease == to.lease, job.c.version == to.version)
    return sa.and_(same, job.c.due_at.is_not(None), job.c.claimed_by.is_not(None))


_WAS_STUCK = (
    sa.select(event.c.id)
    .where(event.c.job_id == job.c.id, event.c.type == EventType.JOB_STUCK)
    .exists()
)
# Built once: building a statement costs more than running it.
_FIND = BulkSelect(sa.select(job).where(one_of(job.c.id)).order_by(job.c.id).with_for_update())
_COLUMNS = job.c.keys()
_BEGIN = Statement(
    sa.update(job)
    .where(
        job.c.id.in_(sa.bindparam("ids", expanding=True)),
        job.c.state == JobState.QUEUED,
        job.c.deadline_at > sa.bindparam("now"),
    )
    .values(
        state=JobState.SUBMITTING,
        attempt=job.c.attempt + 1,
        misses=0,
        version=job.c.version + 1,
        # The claim goes on.
        claimed_by=job.c.claimed_by,
    )
    .returning(job)
)
_OVERDUE = (
    sa.select(job.c.id)
    .where(job.c.deadline_at <= sa.bindparam("now"), job.c.due_at.is_not(None))
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_NOTE = bulk_insert(trace, "job_id", "at", "kind", "detail")
_QUERIED = sa.select(*(job.c[name] for name in ("id", "account", "due_at", "queried_at")))
_LOCK = BulkSelect(sa.select(job.c.id).where(one_of(job.c.id)).order_by(job.c.id).with_for_update())
_USED = BulkSelect(
    sa.select(job.c.account, job.c.vendor_task_id).where(one_of(job.c.vendor_task_id))
)
_SAVE = bulk_update(job, *MUTABLE, key=("id", "version"))
_SAVE_NAMED = bulk_update(job, "vendor_task_id", *MUTABLE, key=("id", "version"))
