"""Claiming what is due: fair between lanes, fenced by a lease, at a cost that does not grow with what is not due.

A claim pushes `due_at` forward by the lease and counts `lease` up. A crash gives the work back by time alone: there is
no "running" state, no heartbeat and no rescuer. Finishing is fenced: it changes nothing once the lease has moved on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypedDict, cast

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState

#: Rows one lane gives at a time while others wait.
QUANTUM = 16


def lanes(
    tx: Tx, column: sa.Column[str], now: datetime, state: JobState | None = None
) -> list[str]:
    """Return the lanes of a table that have something due (in `state`), hopping through its partial index.

    A loose index scan (https://wiki.postgresql.org/wiki/Loose_indexscan): it touches a few index entries for each
    lane, however many rows a lane has.
    """
    return list(tx.scalars(_hops(column, state is not None), {"now": now, "state": state}))


@lru_cache
def _hops(column: sa.Column[str], stated: bool) -> sa.Select[tuple[str]]:
    table = column.table
    due = table.c.due_at
    # In the order of the partial index, which no other index has: a planner may not take another one.
    order = (column, table.c.state, due) if table is job else (column, due)
    first = sa.select(column).where(due.is_not(None)).order_by(*order).limit(1)
    hop = sa.select(first.scalar_subquery().label("lane")).cte("hop", recursive=True)
    onward = first.where(column > hop.c.lane).scalar_subquery()
    hop = hop.union_all(sa.select(onward).where(hop.c.lane.is_not(None)))
    # Not EXISTS: PostgreSQL would make a join of it, and read everything that is due in every lane.
    ripe = sa.select(sa.literal(1)).where(column == hop.c.lane, due <= sa.bindparam("now")).limit(1)
    if stated:
        ripe = ripe.where(table.c.state == sa.bindparam("state"))
    return sa.select(hop.c.lane).where(hop.c.lane.is_not(None), ripe.scalar_subquery().is_not(None))


class QueuedDelivery(TypedDict):
    """A claimed delivery: its ids, the lease of the claim, and the attempts made before."""

    id: str
    event_id: str
    subscriber_id: str
    lease: int
    tries: int


def take_jobs(
    tx: Tx, state: JobState, quanta: Mapping[str, int], now: datetime, lease: float, room: int
) -> list[JobRow]:
    """Claim the oldest due jobs in `state` for `lease` seconds: so many of each account, `room` in all."""
    ids = _oldest(tx, _JOBS, {"now": now, "state": state}, quanta, room)
    return cast("list[JobRow]", _claim(tx, job, ids, now, lease))


def take_deliveries(
    tx: Tx, quanta: Mapping[str, int], now: datetime, lease: float, room: int
) -> list[QueuedDelivery]:
    """Claim the oldest due deliveries for `lease` seconds: so many of each subscriber, `room` in all.

    Of each are returned its ids, its lease, and the tries before.
    """
    ids = _oldest(tx, _DELIVERIES, {"now": now}, quanta, room)
    return cast("list[QueuedDelivery]", _claim(tx, delivery, ids, now, lease))


def _oldest(
    tx: Tx,
    due: sa.Select[tuple[str]],
    known: Mapping[str, object],
    quanta: Mapping[str, int],
    room: int,
) -> list[str]:
    ids: list[str] = []
    for lane, quantum in quanta.items():
        if len(ids) >= room:
            break
        ids += tx.scalars(due, {**known, "lane": lane, "share": min(quantum, room - len(ids))})
    return ids


def _claim(
    tx: Tx, table: sa.Table, ids: list[str], now: datetime, lease: float
) -> list[sa.RowMapping]:
    if not ids:
        return []
    rows = (
        tx.execute(_TAKE[table.name], {"ids": ids, "now": now, "until": after(now, lease)})
        .mappings()
        .all()
    )
    place = {found: n for n, found in enumerate(ids)}
    return sorted(rows, key=lambda row: place[row["id"]])


# Built once: putting a statement together costs more than running it.
def _due(
    table: sa.Table, lane: sa.Column[str], *also: sa.ColumnElement[bool]
) -> sa.Select[tuple[str]]:
    ripe = sa.select(table.c.id).where(
        lane == sa.bindparam("lane"), table.c.due_at <= sa.bindparam("now"), *also
    )
    return (
        ripe.order_by(table.c.due_at)
        .limit(sa.bindparam("share", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


def _take(table: sa.Table, *columns: sa.Column[Any]) -> ReturningUpdate[Any]:
    # `due_at <= now` again: under READ COMMITTED the loser of a race re-checks it and takes nothing.
    mine = sa.and_(
        table.c.id.in_(sa.bindparam("ids", expanding=True)), table.c.due_at <= sa.bindparam("now")
    )
    until = sa.bindparam("until", type_=table.c.due_at.type)
    return (
        sa.update(table)
        .where(mine)
        .values(due_at=until, lease=table.c.lease + 1)
        .returning(*columns)
    )


_JOBS = _due(job, job.c.account, job.c.state == sa.bindparam("state"))


_DELIVERIES = _due(delivery, delivery.c.subscriber_id)


_OWED = (
    delivery.c.id,
    delivery.c.event_id,
    delivery.c.subscriber_id,
    delivery.c.lease,
    delivery.c.tries,
)


_TAKE = {"job": _take(job, *job.c), "delivery": _take(delivery, *_OWED)}
