"""Retries of jobs: one at a time for the same work, so that it is not paid for twice.

Retries of a job, retries of those, and so on share a root, the first job, and are numbered. The
number is unique: of two concurrent retries one gets it, and the other finds that one.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.rows import JobRow, fetch
from orchestrator.foundation.errors import Conflict, Problem
from orchestrator.foundation.states import FINAL, JobState
from orchestrator.jobs.creation import Accepted, create_jobs

#: Each round is lost to another retry of the same work.
_ROUNDS = 8


class RetryNumber(NamedTuple):
    """The place of a retry in its chain: the columns of `job`."""

    retry_root: str
    retry_number: int


class _Member(TypedDict):
    id: str
    state: str
    retry_number: int | None


def number_of(tx: Tx, job_id: str, *, again: bool) -> RetryNumber:
    """Return the number of the next retry of a job.

    Raises `Conflict` if another job of its chain is live or has succeeded, unless `again`.
    """
    root = tx.scalar(
        sa.select(sa.func.coalesce(job.c.retry_root, job.c.id)).where(job.c.id == job_id)
    )
    chain = sa.or_(job.c.id == root, job.c.retry_root == root)
    members = fetch(tx, _Member, sa.select(job.c.id, job.c.state, job.c.retry_number).where(chain))
    for member in members:
        state = member["state"]
        if (
            not again
            and member["id"] != job_id
            and (state not in FINAL or state == JobState.SUCCEEDED)
        ):
            raise Conflict(
                f"{member['id']} is the same work and is {state}; send `again` to pay for another",
                code="already_retried",
                job_id=member["id"],
            )
    last = max((member["retry_number"] or 0 for member in members), default=0)
    return RetryNumber(str(root), last + 1)


def create_retry(tx: Tx, draft: dict[str, Any], *, again: bool) -> Accepted | Problem:
    """Unit of work: create the job of a draft that has `retry_of`."""
    for _ in range(_ROUNDS):
        if (row := _found(tx, job.c.id == draft["id"])) is not None:
            # This unit of work ran before: it was committed, and its result was lost.
            return Accepted(row)
        if (key := draft["idempotency_key"]) is not None and _found(
            tx, sa.and_(job.c.api_key == draft["api_key"], job.c.idempotency_key == key)
        ):
            return create_jobs(tx, [draft])[0]
        try:
            number = number_of(tx, draft["retry_of"], again=again)
        except Conflict as conflict:
            return conflict
        numbered = draft | number._asdict()
        if isinstance(created := create_jobs(tx, [numbered])[0], Accepted):
            return created
    return Conflict("other retries of this job are being made", job_id=draft["retry_of"])


def _found(tx: Tx, which: sa.ColumnElement[bool]) -> JobRow | None:
    return next(iter(fetch(tx, JobRow, sa.select(job).where(which))), None)
