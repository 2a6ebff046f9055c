"""The jobs that a replay retries: final ones that did not succeed, each as a new job.

They are read like the list of jobs, newest first, so every chunk reads a bounded number of rows
along an index. Of a chain of retries only the newest is retried, since all of them are the same
work. A retry is created in the transaction that moves the cursor: a crash repeats none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, TypedDict, cast

import sqlalchemy as sa

from orchestrator.database import json_filters, listing
from orchestrator.database.index_scan import opaque
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.indexes import uncommon
from orchestrator.database.tables.rows import JobRow, ReplayRow, fetch
from orchestrator.engine.replay_contract import Candidate, Chunk, Made, Sampled, Selection
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.states import FINAL, JobState
from orchestrator.jobs import job_filter
from orchestrator.jobs.creation import Accepted
from orchestrator.jobs.intake import JobIntake, check_order
from orchestrator.jobs.job_filter import JobFilter
from orchestrator.jobs.ledger import Note

#: The states that are retried in bulk.
RETRYABLE = tuple(sorted(FINAL - {JobState.SUCCEEDED}))
#: Jobs a second, where a replay has no rate: each is a render to pay for, and may be stopped.
RATE = 10.0


class RetryFilter(JobFilter):
    """The column `replay.jobs`. `created_after` is RFC 3339, exclusive.

    `again`: also jobs of which a retry is live or has succeeded.
    """

    created_after: str | None
    again: bool


class _Listed(TypedDict):
    id: str


_LIST = listing.jobs.showing(_Listed)


class Retries(Selection):
    """Jobs, to be retried."""

    prefix = "job"
    id = job.c.id
    owner = job.c.account
    # Each may hold a megabyte, and the whole slice is one transaction.
    most = 25

    def __init__(self, row: ReplayRow) -> None:
        super().__init__(row)
        self._filter = cast(RetryFilter, row["jobs"])

    def bounds(self, tx: Tx) -> tuple[str, str]:
        """Return the ids between which jobs are read, from the newest downwards."""
        newest = tx.scalar(sa.select(sa.func.max(self.id))) or ""
        # Exclusive, and greater than the newest.
        return f"{newest or self.prefix}0", newest

    def matching(self, tx: Tx, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Select columns of the jobs that would be retried."""
        return sa.select(*columns).select_from(job).where(*self._conditions())

    def next_chunk(self, tx: Tx, most: int) -> Chunk:
        """Return the next jobs in the order of the list."""
        page = _LIST(tx, self._wanted, self.row["cursor"], most, self._since)
        ids = [row["id"] for row in page.rows]
        alone = set(tx.scalars(sa.select(self.id).where(self.id.in_(ids), *self._alone())))
        return Chunk([Candidate(one, one in alone, True) for one in ids], page.next)

    def make_due(
        self, tx: Tx, intake: JobIntake, chosen: Sequence[Candidate], now: datetime
    ) -> Made:
        """Create a retry of each job. One that cannot be retried gets a note with the reason."""
        made: list[JobRow] = []
        refused: list[Note] = []
        for one in chosen:
            # One by one: a later job may be of the chain of an earlier one, and inputs are large.
            found = self._retried(tx, intake, one.id)
            if isinstance(found, Accepted):
                made.append(found.job)
            elif found.code != "already_retried":
                what = {"action": "retry", "by": self.row["api_key"], "outcome": "refused"}
                refused.append(Note(one.id, "operator", {**what, "reason": found.detail}))
        intake.ledger.note(tx, refused, now)
        return Made(len(made), len(refused), made)

    def sampled(self, tx: Tx, ids: Sequence[str]) -> list[Sampled]:
        """Return what a preview shows of jobs."""
        found = tx.execute(sa.select(job).where(self.id.in_(ids)).order_by(self.id.desc()))
        return [
            Sampled("job", row.id, row.state, row.created_at, account=row.account, job=row.id,
                    error=(row.error or {}).get("code"))
            for row in found
        ]  # fmt: skip

    def _retried(self, tx: Tx, intake: JobIntake, job_id: str) -> Accepted | Problem:
        (old,) = fetch(tx, JobRow, sa.select(job).where(self.id == job_id)) or (None,)
        if old is None or old["state"] not in self._wanted["state"]:
            return Problem("deleted, or succeeded, meanwhile", code="already_retried")
        try:
            draft = intake.repetition(old, self.row["api_key"], again=self._filter["again"])
            check_order(intake.vendors[old["account"]], draft)
        except Problem as problem:
            return problem
        return intake.create(tx, [draft])[0]

    @cached_property
    def _wanted(self) -> Mapping[str, Sequence[str]]:
        return job_filter.wanted(self._filter)

    @cached_property
    def _since(self) -> datetime | None:
        after = self._filter["created_after"]
        return None if after is None else datetime.fromisoformat(after)

    @property
    def texts(self) -> dict[str, str]:
        """Return the parameters of the filters on JSON."""
        return {f"one_{name}": values[0] for name, values in self._wanted.items()}

    def _conditions(self) -> list[sa.ColumnElement[bool] | sa.TextClause]:
        """Return the conditions on jobs; those on states imply that of the index of states."""
        found: list[sa.ColumnElement[bool] | sa.TextClause] = [
            sa.text(uncommon("job", "state")),
            # Along the index of states, not along the ids of all jobs.
            opaque(self.id <= self.row["newest"]),
            *self._alone(),
        ]
        if self._since is not None:
            found.append(job.c.created_at > self._since)
        for name, values in self._wanted.items():
            held = json_filters.holds(job, name)
            found.append(job.c[name].in_(values) if held is None else held)
        return found

    def _alone(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that no other job of the same work stands in the way.

        A live one always does, and one that was made since this replay was counted: a request that
        is sent twice pays once.
        """
        other = job.alias()
        number = sa.func.coalesce(other.c.retry_number, 0)
        newer = number > sa.func.coalesce(job.c.retry_number, 0)
        if self._filter["again"]:
            busy = other.c.state.not_in(FINAL), other.c.id > self.row["newest"]
            in_way = sa.or_(sa.and_(newer, other.c.state.in_(self._wanted["state"])), *busy)
        else:
            ended = other.c.state.in_(RETRYABLE)
            in_way = sa.or_(newer, sa.not_(ended))
        root = sa.func.coalesce(job.c.retry_root, job.c.id)
        member = sa.select(1).where(other.c.retry_root == root, other.c.id != job.c.id, in_way)
        first = sa.select(1).where(other.c.id == job.c.retry_root, in_way)
        return [sa.not_(member.exists()), sa.not_(first.exists())]
