"""Counts of all that is stored, and the ages of what waits: along partial indexes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database import queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job
from orchestrator.database.tables.indexes import uncommon
from orchestrator.foundation.states import AT_VENDOR, JobState
from orchestrator.jobs.waiting import waiting_since


class Totals(NamedTuple):
    """Jobs and deliveries by state; seconds since the oldest job of a state was created.

    A job with a start counts from it. `queued` leaves out jobs that have not reached theirs.
    `overdue` is the age of the longest overdue delivery. None: there is none.
    """

    jobs: Mapping[str, int]
    #: True if the jobs that succeeded are estimated.
    estimated: bool
    deliveries: Mapping[str, int]
    queued: float | None
    submitting: float | None
    at_vendor: float | None
    overdue: float | None


def totals(tx: Tx, now: datetime) -> Totals:
    """Return the counts and ages of now. Delivered deliveries are not counted."""
    states: dict[str, int] = dict(tx.execute(_STATES).all())
    jobs: dict[str, int] = dict.fromkeys(JobState, 0) | states
    stored, estimated = _stored(tx)
    jobs[JobState.SUCCEEDED] = max(0, stored - sum(states.values()))
    ages = [_oldest(tx, now, state) for state in AT_VENDOR]
    return Totals(
        jobs,
        estimated,
        dict(tx.execute(_OWED).all()),
        _queued(tx, now),
        _oldest(tx, now, JobState.SUBMITTING),
        max((age for age in ages if age is not None), default=None),
        _age(tx.scalar(_DUE), now, overdue=True),
    )


def _stored(tx: Tx) -> tuple[int, bool]:
    """Return the number of jobs, and whether it is an estimate.

    PostgreSQL visits every row to count them, so many are taken from its statistics.
    """
    if tx.dialect.name == "postgresql" and (estimate := int(tx.scalar(_ESTIMATE) or 0)) >= MANY:
        return estimate, True
    return tx.scalar(_ALL) or 0, False


def _queued(tx: Tx, now: datetime) -> float | None:
    accounts = queue.lanes(tx, job.c.account, _ALL_TIME, JobState.QUEUED)
    found = [waiting_since(tx, account, now) for account in accounts]
    return _age(min((since for since in found if since), default=None), now)


def _oldest(tx: Tx, now: datetime, state: JobState) -> float | None:
    return _age(tx.scalar(_OLDEST, {"state": state}), now)


def _age(since: datetime | None, now: datetime, *, overdue: bool = False) -> float | None:
    if since is None or (overdue and since > now):
        return None
    return max(0.0, (now - since).total_seconds())


#: No job is due later.
_ALL_TIME = datetime.max.replace(tzinfo=UTC)
#: Jobs that are counted exactly on PostgreSQL.
MANY = 200_000
_ESTIMATE = sa.text("SELECT reltuples FROM pg_class WHERE oid = to_regclass('job')")
# Each reads an index, and no row or one.
_ALL = sa.select(sa.func.count()).select_from(job)
_STATES = (
    sa.select(job.c.state, sa.func.count())
    .where(sa.text(uncommon("job", "state")))
    .group_by(job.c.state)
)
_OWED = (
    sa.select(delivery.c.state, sa.func.count())
    .where(sa.text(uncommon("delivery", "state")))
    .group_by(delivery.c.state)
)
_DUE = sa.select(sa.func.min(delivery.c.due_at)).where(delivery.c.due_at.is_not(None))
#: The first of a state by id, that is by age.
_OLDEST = (
    sa.select(sa.func.coalesce(job.c.start_after, job.c.created_at, type_=job.c.created_at.type))
    .where(
        sa.text(uncommon("job", "state")),
        sa.tuple_(job.c.state, job.c.id) >= sa.tuple_(sa.bindparam("state", type_=sa.String), ""),
        job.c.state == sa.bindparam("state", type_=sa.String),
    )
    .order_by(job.c.state, job.c.id)
    .limit(1)
)
