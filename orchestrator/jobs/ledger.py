"""The truth: the only writer of job state.

Push, poll, submit answer, clock and operator all end in `apply`; the loser of a race is told so and nobody hears twice,
because event and deliveries are written in the transaction that moves the job. Every unit here takes a list: a hundred
reports cost the statements of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import Finder, among, updating
from orchestrator.database.store import Tx
from orchestrator.database.tables import job, trace
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import AT_VENDOR, EventType, JobState
from orchestrator.jobs import push_health
from orchestrator.jobs.creation import Accepted, create_jobs
from orchestrator.jobs.transition import ReportEvent, ReportOutcome, Values, decide
from orchestrator.schemas.jobs import job_json
from orchestrator.vendors.contract import Vendor

Row = Mapping[Any, Any]


class ApplyResult(NamedTuple):
    """What came of a report: its outcome, and the job as it is after it (None if there is none)."""

    outcome: ReportOutcome
    job: Row | None
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Reschedule:
    """Bookkeeping of a claim, about the job as it was claimed.

    It changes nothing once somebody else has claimed the job, or it has changed: what is new of it came with a time of
    its own. To wait for the deadline since a task has no id, for one, is wrong as soon as it has.
    """

    job_id: str
    lease: int
    version: int
    values: Values

    @staticmethod
    def of(row: Row, values: Values) -> Reschedule:
        """Return what is to become of a claimed row."""
        return Reschedule(row["id"], row["lease"], row["version"], values)


@dataclass(slots=True)
class _ApplyBatch:
    """What one call of `apply` knows: the jobs, the vendor ids that are taken, the accounts whose pushes stopped."""

    now: datetime
    rows: dict[str, Values]
    taken: set[tuple[str, str]]
    silent: frozenset[str]
    facts: list[NewEvent] = field(default_factory=list)
    #: Jobs that changed; those of them that got a vendor id.
    changed: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def settle(self, row: Row, vendor: Vendor | None, values: Values) -> Values:
        """Return the values as they can be written."""
        if "vendor_task_id" in values:
            key = (row["account"], values["vendor_task_id"])
            if key in self.taken:
                # Two jobs, one vendor id: the vendor is confused. Its verdicts still reach us by token.
                del values["vendor_task_id"]
            self.taken.add(key)
        if (
            vendor is not None
            and row["account"] in self.silent
            and values.get("due_at") is not None
        ):
            # Its pushes have stopped, so silence says nothing: the next question comes sooner.
            values["due_at"] = min(values["due_at"], after(self.now, vendor.account.poll.interval))
        return values


class Ledger:
    """Job state, and everything that must become true with it. All methods are units of work."""

    def __init__(
        self, vendors: Mapping[str, Vendor], ids: Ids, clock: Clock, base_url: str
    ) -> None:
        self._vendors = vendors
        self._ids = ids
        self._clock = clock
        self._base = base_url

    # -- a job begins

    def open(self, tx: Tx, drafts: list[Values]) -> list[Accepted | Problem]:
        """Take jobs on. A draft that repeats an idempotency key gets the first one's job; a clash gets a problem."""
        return create_jobs(tx, drafts)

    def begin(self, tx: Tx, claimed: Sequence[Row]) -> list[Values]:
        """Record the intent to submit claimed jobs, before anything leaves: a push can then never meet a stranger.

        One whose deadline has passed is left to expire: nobody waits for it, and a render costs money.
        """
        now = self._clock.now()
        if not claimed:
            return []
        wanted = sa.and_(job.c.id.in_([row["id"] for row in claimed]), job.c.deadline_at > now)
        begun = (
            sa.update(job)
            .where(wanted, job.c.state == JobState.QUEUED)
            .values(
                state=JobState.SUBMITTING,
                attempt=job.c.attempt + 1,
                misses=0,
                version=job.c.version + 1,
            )
            .returning(job)
        )
        rows = [dict(row) for row in tx.execute(begun).mappings()]
        self.note(
            tx,
            [
                (row["id"], "submit", {"attempt": row["attempt"], "outcome": "begun"})
                for row in rows
            ],
            now,
        )
        return rows

    def requeue(self, tx: Tx, postponed: Sequence[Reschedule]) -> None:
        """Put submissions that certainly did not happen back into the queue. The one way back there is."""
        for one in postponed:
            tx.execute(
                sa.update(job)
                .where(
                    job.c.id == one.job_id,
                    job.c.lease == one.lease,
                    job.c.state == JobState.SUBMITTING,
                )
                .values(state=JobState.QUEUED, version=job.c.version + 1, **one.values)
            )

    # -- what is heard of it

    def apply(self, tx: Tx, heard: Sequence[ReportEvent]) -> list[ApplyResult]:
        """Believe reports, in order, each as far as rank allows; tell subscribers of every move."""
        now = self._clock.now()
        if not heard:
            return []
        found = _FIND(tx, sorted({one.job_id for one in heard}))
        rows = {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in found}
        before = {job_id: row["version"] for job_id, row in rows.items()}
        states = push_health.load_states(tx, {row["account"] for row in rows.values()})
        silent = frozenset(account for account, state in states.items() if state["degraded"])
        sitting = _ApplyBatch(now, rows, self._taken(tx, rows, heard), silent)
        verdicts = [self._believe(sitting, one) for one in heard]
        self._save(tx, sitting, before)
        after_all = [(one.job, one.moved) for one in verdicts]
        stopped = push_health.track(tx, states, self._vendors, heard, after_all, now)
        publish(tx, self._ids, sitting.facts + stopped, now)
        return verdicts

    def _believe(self, sitting: _ApplyBatch, heard: ReportEvent) -> ApplyResult:
        row = sitting.rows.get(heard.job_id)
        if row is None:
            return ApplyResult(ReportOutcome.NO_JOB, None)
        vendor = self._vendors.get(row["account"])
        change = decide(row, heard, vendor, sitting.now)
        late = row["state"] == JobState.EXPIRED
        values = sitting.settle(row, vendor, dict(change.values))
        news = {name for name, value in values.items() if row[name] != value}
        if not news:
            return ApplyResult(change.outcome, row)
        # Who waits for a change is not to be woken by our own timetable.
        row |= values
        row["version"] += not news <= _UNSEEN
        sitting.changed.add(row["id"])
        if "vendor_task_id" in news:
            sitting.named.add(row["id"])
        if change.moved is not None:
            row["sequence"] += 1
            data = job_json(row, self._base)
            sitting.facts.append(
                NewEvent(_MOVED[change.moved], heard.source, data, row["sequence"], row, late=late)
            )
        return ApplyResult(change.outcome, row, moved=change.moved is not None)

    def _taken(
        self, tx: Tx, rows: Mapping[str, Values], heard: Sequence[ReportEvent]
    ) -> set[tuple[str, str]]:
        """Return which of the vendor ids that are news to us belong to some job already."""
        news = [
            one.report.vendor_task_id
            for one in heard
            if one.report.vendor_task_id
            and (row := rows.get(one.job_id))
            and not row["vendor_task_id"]
        ]
        return {(account, task) for account, task in _TAKEN(tx, news)}

    def _save(self, tx: Tx, sitting: _ApplyBatch, before: Mapping[str, int]) -> None:
        """Write changed rows, narrow columns only, guarded by the version they were read at."""
        for statement, ids in ((_SAVE, sitting.changed - sitting.named), (_NAME, sitting.named)):
            rows = [row for job_id, row in sitting.rows.items() if job_id in ids]
            statement(
                tx, [row | {"was_id": row["id"], "was_version": before[row["id"]]} for row in rows]
            )

    # -- bookkeeping

    def postpone(self, tx: Tx, postponed: Sequence[Reschedule]) -> None:
        """Set when a claimed, live job is due again."""
        for one in postponed:
            same = sa.and_(
                job.c.id == one.job_id, job.c.lease == one.lease, job.c.version == one.version
            )
            tx.execute(sa.update(job).where(same, job.c.due_at.is_not(None)).values(**one.values))

    def hurry(self, tx: Tx, job_ids: Sequence[str], now: datetime) -> None:
        """Make jobs due for a question at once. One that is still being submitted keeps its claim."""
        askable = sa.and_(job.c.id.in_(job_ids), job.c.state.in_(AT_VENDOR), job.c.due_at > now)
        tx.execute(sa.update(job).where(askable).values(due_at=now))

    def overdue(self, tx: Tx, now: datetime, limit: int = 500) -> list[str]:
        """Return live jobs whose deadline has passed."""
        late = (
            sa.select(job.c.id)
            .where(job.c.deadline_at <= now, job.c.due_at.is_not(None))
            .limit(limit)
        )
        return list(tx.scalars(late))

    def note(
        self, tx: Tx, notes: Sequence[tuple[str, str, Mapping[str, Any]]], now: datetime
    ) -> None:
        """Add to the histories of jobs: (job id, kind, detail)."""
        if notes:
            rows = [
                {"job_id": job_id, "kind": kind, "detail": detail, "at": now}
                for job_id, kind, detail in notes
            ]
            tx.execute(sa.insert(trace), rows)


#: What a report may change, and once in its life a vendor's id. The wide columns (input, metadata) are never written
#: again, and to write an id that stays would cost SQLite its index of them.
MUTABLE = (
    "state", "vendor_status", "progress", "output", "error", "asks", "misses", "due_at", "version", "sequence",
    "vendor_updated_at", "outputless_since", "submitted_at", "finished_at", "resolved_by",
)  # fmt: skip

#: What is told of a job that has moved there.
_MOVED = {
    JobState(kind.removeprefix("job.")): kind for kind in EventType if kind.startswith("job.")
}

#: Changes that do not make another version of a job.
_UNSEEN = {"due_at", "asks", "misses", "vendor_updated_at", "outputless_since"}

# Built once: putting a statement together costs more than running it.
_FIND = Finder(sa.select(job).where(among(job.c.id)).order_by(job.c.id).with_for_update())
_COLUMNS = job.c.keys()
_TAKEN = Finder(sa.select(job.c.account, job.c.vendor_task_id).where(among(job.c.vendor_task_id)))
_SAVE = updating(job, *MUTABLE, key=("id", "version"))
_NAME = updating(job, "vendor_task_id", *MUTABLE, key=("id", "version"))
