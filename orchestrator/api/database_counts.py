"""What the gauges of the database show, counted along indexes: no statement reads all jobs.

A scan costs what is pending or dead, not what is stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, callback_address, delivery, job, subscriber
from orchestrator.events.callback_lanes import IS_FAILING
from orchestrator.foundation.states import DeliveryState, JobState
from orchestrator.jobs import push_health
from orchestrator.jobs.waiting import waiting_since

#: Jobs of one account and state whose ages are compared, the next due first. An account seldom has
#: more in flight.
_COMPARED = 1000


@dataclass(frozen=True, slots=True)
class LiveJobs:
    """The jobs of an account in one state, and the age in seconds of the oldest one.

    A queued job that has not reached its start has none, and after it one from then on.
    """

    account: str
    state: str
    count: int
    oldest: float


@dataclass(frozen=True, slots=True)
class AccountCounts:
    """The state of an account, and the pushes refused by reason. `held`: why its jobs wait."""

    name: str
    paused: bool
    held: str | None
    degraded: bool
    refused: dict[str, int]


@dataclass(slots=True)
class LaneCounts:
    """The deliveries of a subscriber. `kind` is `callback` for the callback URLs of a host.

    `later`: pending ones that are not due: retries, and attempts in progress. `overdue`: for how
    long (s) the longest due one has been due. `failing`: for how long every attempt has failed.
    """

    id: str
    kind: str
    pending: int = 0
    later: int = 0
    dead: int = 0
    overdue: float = 0.0
    failing: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one instant. Sizes are in bytes; None: unknown."""

    jobs: Collection[LiveJobs] = ()
    accounts: Collection[AccountCounts] = ()
    lanes: Collection[LaneCounts] = field(default_factory=tuple)
    size: int | None = None
    disk_free: int | None = None


def count(tx: Tx, now: datetime, file: Path | None) -> Counts:
    """Return the counts. `file` is that of SQLite."""
    size = _stored(file) if file else tx.scalar(_SIZE)
    free = _free(file) if file else None
    return Counts(_jobs(tx, now), _accounts(tx, now), _lanes(tx, now), size, free)


def _jobs(tx: Tx, now: datetime) -> list[LiveJobs]:
    found: list[LiveJobs] = []
    for account, state, number in tx.execute(_LIVE).all():
        if state == JobState.QUEUED:
            age = _since(waiting_since(tx, account, now), now)
        else:
            age = _since(tx.scalar(_OLDEST, {"account": account, "state": state}), now)
        found.append(LiveJobs(account, state, number, age))
    return found


def _accounts(tx: Tx, now: datetime) -> list[AccountCounts]:
    return [
        AccountCounts(
            row.account,
            row.paused_until is not None and row.paused_until > now,
            row.held_reason if row.held_since else None,
            row.degraded and push_health.is_current(tx, row.account, now),
            {reason: getattr(row, reason) for reason in _REASONS},
        )
        for row in tx.execute(_ACCOUNTS)
    ]


def _lanes(tx: Tx, now: datetime) -> list[LaneCounts]:
    lanes: dict[str, LaneCounts] = {}
    for row in tx.execute(_SUBSCRIBERS):
        kind = "callback" if row.callback_origin is not None else row.kind
        lanes[row.id] = LaneCounts(row.id, kind, failing=_since(row.failing_since, now))

    def lane(name: str) -> LaneCounts:
        return lanes.setdefault(name, LaneCounts(name, "unknown"))

    for name, since in tx.execute(_FAILING_ADDRESSES):
        lane(name).failing = _since(since, now)
    for name, pending, later, due in tx.execute(_PENDING, {"now": now}):
        one = lane(name)
        one.pending, one.later, one.overdue = pending, later, _since(due, now)
    for name, dead in tx.execute(_DEAD):
        lane(name).dead = dead
    return [*lanes.values()]


def _since(at: datetime | None, now: datetime) -> float:
    return max((now - at).total_seconds(), 0.0) if at else 0.0


def _stored(file: Path) -> int:
    """Return the bytes of a SQLite database with its log."""
    total = 0
    for part in (file, file.with_name(f"{file.name}-wal")):
        with suppress(OSError):
            total += part.stat().st_size
    return total


def _free(file: Path) -> int | None:
    try:
        return shutil.disk_usage(file.absolute().parent).free
    except OSError:
        return None


_REASONS = ("unsigned", "stale", "mismatched")
_SIZE = sa.select(sa.func.pg_database_size(sa.func.current_database()))
# Each of the next reads one partial index from end to end, and no row.
_LIVE = (
    sa.select(job.c.account, job.c.state, sa.func.count())
    .where(job.c.due_at.is_not(None))
    .group_by(job.c.account, job.c.state)
)
_PENDING = (
    sa.select(
        delivery.c.subscriber_id,
        sa.func.count(),
        sa.func.count().filter(
            delivery.c.due_at > sa.bindparam("now", type_=delivery.c.due_at.type)
        ),
        sa.func.min(delivery.c.due_at),
    )
    .where(delivery.c.due_at.is_not(None))
    .group_by(delivery.c.subscriber_id)
)
_DEAD = (
    sa.select(delivery.c.subscriber_id, sa.func.count())
    .where(delivery.c.state == sa.literal_column(f"'{DeliveryState.DEAD}'"))
    .group_by(delivery.c.subscriber_id)
)
#: A job that was to start later is as old as its start.
_OLDEST: sa.Select[datetime | None] = sa.select(
    sa.func.min(sa.column("since"), type_=job.c.created_at.type)
).select_from(
    sa.select(sa.func.coalesce(job.c.start_after, job.c.created_at).label("since"))
    .where(
        job.c.account == sa.bindparam("account"),
        job.c.state == sa.bindparam("state"),
        job.c.due_at.is_not(None),
    )
    .order_by(job.c.due_at)
    .limit(_COMPARED)
    .subquery()
)
# These tables are short: accounts, subscribers and hosts, callback URLs that failed.
_ACCOUNTS = sa.select(
    account_state.c.account,
    account_state.c.paused_until,
    account_state.c.held_reason,
    account_state.c.held_since,
    account_state.c.degraded,
    *(account_state.c[reason] for reason in _REASONS),
)
_SUBSCRIBERS = sa.select(
    subscriber.c.id, subscriber.c.kind, subscriber.c.callback_origin, subscriber.c.failing_since
)
_FAILING_ADDRESSES = (
    sa.select(callback_address.c.lane, sa.func.min(callback_address.c.failing_since))
    .where(IS_FAILING)
    .group_by(callback_address.c.lane)
)
