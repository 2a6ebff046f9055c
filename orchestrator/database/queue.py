"""The queue in the tables: due rows are claimed, fair between lanes and fenced by a lease.

A claim moves `due_at` forward by the lease, increments `lease`, the fencing token, and names the
process. When that process is known to have ended, its claims are taken back (`take_back`); else the
work becomes due again by time alone: there is no "running" state. Finishing is fenced: it changes
nothing once the lease has moved on. The cost of a claim does not grow with the rows that are not
due.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

import sqlalchemy as sa

from orchestrator.database.bulk import RowLock
from orchestrator.database.delivery_order import first_in_order
from orchestrator.database.membership import UNBOUND
from orchestrator.database.statements import Statement
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import AT_VENDOR, IN_FLIGHT, JobState

#: Seconds that no claim exceeds: the longest `answer_timeout`, a stage's margin and a clock's.
LONGEST_LEASE = 720.0
#: Rows of one lane in a claim while other lanes wait (round-robin with a quantum).
QUANTUM = 16


class QueuedDelivery(TypedDict):
    """A claimed delivery: its ids, its lease and its previous tries.

    `forced_at` is set if it does not wait for a subscriber that rests. `due_at` is the end of the
    claim, `claimed_by` the number of the process.
    """

    id: str
    event_id: str
    subscriber_id: str
    forced_at: datetime | None
    due_at: datetime
    lease: int
    claimed_by: int
    tries: int


RowT = TypeVar("RowT", JobRow, QueuedDelivery)


def lanes(
    tx: Tx, column: sa.Column[str], now: datetime, state: JobState | None = None
) -> list[str]:
    """Return the lanes of a table that have due rows (in `state`).

    A loose index scan (https://wiki.postgresql.org/wiki/Loose_indexscan) of the partial index: it
    reads a few entries for each lane, however many rows the lane has.
    """
    found = _due_lanes(column, state is not None)(tx, {"now": now, "state": state})
    return [lane for (lane,) in found]


@lru_cache
def due_lanes(column: sa.Column[str], stated: bool) -> sa.Select[tuple[str]]:
    """Return the statement of `lanes`, with the parameters `now` and, if `stated`, `state`."""
    table = column.table
    due = table.c.due_at
    # The order of the partial index, which no other index has: a planner cannot take another.
    order = (column, table.c.state, due) if table is job else (column, due)
    first = sa.select(column).where(due.is_not(None)).order_by(*order).limit(1)
    hop = sa.select(first.scalar_subquery().label("lane")).cte("hop", recursive=True)
    onward = first.where(column > hop.c.lane).scalar_subquery()
    hop = hop.union_all(sa.select(onward).where(hop.c.lane.is_not(None)))
    # Not EXISTS: PostgreSQL would make it a join, and read every due row of every lane.
    ripe = sa.select(sa.literal(1)).where(column == hop.c.lane, due <= sa.bindparam("now")).limit(1)
    if stated:
        ripe = ripe.where(table.c.state == sa.bindparam("state"))
    # Else PostgreSQL reads all rows for one that is due, if it expects many.
    ripe = ripe.order_by(*order)
    return sa.select(hop.c.lane).where(hop.c.lane.is_not(None), ripe.scalar_subquery().is_not(None))


@lru_cache
def _due_lanes(column: sa.Column[str], stated: bool) -> Statement:
    return Statement(due_lanes(column, stated))


def take_jobs(
    tx: Tx,
    state: JobState,
    quanta: Mapping[str, int],
    now: datetime,
    lease: float,
    room: int,
    by: int = UNBOUND,
    *,
    early: float = 0.0,
    chosen: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[JobRow]:
    """Claim the oldest due jobs in `state` for `lease` seconds, for the process `by`.

    At most `quanta` of each account, and `room` in all. Jobs at the vendor are claimed for a status
    query, so `queried_at` is set. `early`: jobs with an id that are due within so many seconds, if
    their last query is as long ago and found them. `chosen`: of these accounts, these jobs in this
    order.
    """
    nearly = _NEARLY_DUE_JOBS if early else _DUE_JOBS
    times = {"now": after(now, early), "rested": after(now, -early)}
    due = partial(_due_now, tx, nearly, {"state": state, **times})

    def oldest(lane: str, share: int) -> Iterable[str]:
        return chosen[lane][:share] if lane in chosen else due(lane, share)

    ids = _oldest(oldest, quanta, room)
    take = _TAKE_QUERIES if state in AT_VENDOR else _TAKE_JOBS
    return _claim(tx, JobRow, take, ids, now, lease, by, early)


def take_deliveries(
    tx: Tx,
    quanta: Mapping[str, int],
    now: datetime,
    lease: float,
    room: int,
    by: int = UNBOUND,
    *,
    forced: bool = False,
    ordered: Collection[str] = (),
) -> list[QueuedDelivery]:
    """Claim the oldest due deliveries for `lease` seconds for the process `by`.

    `forced`: those alone that an operator asked for. `ordered`: the lanes in which the deliveries
    of a job come one after the other.

    At most `quanta` of each subscriber, and `room` in all.
    """
    due = partial(_due_now, tx, _FORCED_DELIVERIES if forced else _DUE_DELIVERIES, {"now": now})

    def oldest(lane: str, share: int) -> Iterable[str]:
        if lane not in ordered:
            return due(lane, share)
        return first_in_order(tx, lane, share, now, after(now, lease), forced=forced)

    ids = _oldest(oldest, quanta, room)
    return _claim(tx, QueuedDelivery, _TAKE_DELIVERIES, ids, now, lease, by)


def take_back(tx: Tx, lost: Sequence[int], now: datetime) -> int:
    """Make due what processes had claimed that have ended; return how many rows.

    Their leases move on: a process that lives after all records facts, and finishes nothing. The
    request of a submission may still be on its way, so the first lookup that does not find it
    proves nothing: `misses` begins at -1.
    """
    until, taken = after(now, LONGEST_LEASE), 0
    jobs = [
        found
        for state in _LIVE
        for lane in lanes(tx, job.c.account, until, state)
        for found in _held(tx, _HELD_JOBS, lost, now, until, lane=lane, state=state)
    ]
    deliveries = [
        found
        for lane in lanes(tx, delivery.c.subscriber_id, until)
        for found in _held(tx, _HELD_DELIVERIES, lost, now, until, lane=lane)
    ]
    for lock, release, ids in (
        (_LOCK_JOBS, _TAKE_BACK_JOBS, jobs), (_LOCK_DELIVERIES, _TAKE_BACK_DELIVERIES, deliveries),
    ):  # fmt: skip
        lock(tx, ids)
        if ids:
            taken += tx.execute(release, {"ids": ids, "lost": lost, "now": now}).rowcount
    return taken


def _held(
    tx: Tx,
    held: sa.Select[tuple[str]],
    lost: Sequence[int],
    now: datetime,
    until: datetime,
    **lane: object,
) -> list[str]:
    return list(tx.scalars(held, {"lost": lost, "now": now, "until": until, **lane}))


def _due_now(
    tx: Tx, due: Statement, known: Mapping[str, object], lane: str, share: int
) -> Iterable[str]:
    return [found for (found,) in due(tx, {**known, "lane": lane, "share": share})]


def _oldest(
    oldest: Callable[[str, int], Iterable[str]], quanta: Mapping[str, int], room: int
) -> list[str]:
    ids: list[str] = []
    for lane, quantum in quanta.items():
        if len(ids) >= room:
            break
        ids += oldest(lane, min(quantum, room - len(ids)))
    return ids


def _claim(
    tx: Tx,
    kind: type[RowT],
    take: Statement,
    ids: list[str],
    now: datetime,
    lease: float,
    by: int,
    early: float = 0.0,
) -> list[RowT]:
    if not ids:
        return []
    times = {"now": now, "ripe": after(now, early), "until": after(now, lease)}
    rows = take.rows(tx, kind, {"ids": ids, "by": by, **times})
    place = {found: n for n, found in enumerate(ids)}
    return sorted(rows, key=lambda row: place[row["id"]])


# The statements are built once: that costs more than to run them.
def _due(table: sa.Table, lane: sa.Column[str], *also: sa.ColumnElement[bool]) -> Statement:
    ripe = sa.select(table.c.id).where(
        lane == sa.bindparam("lane"), table.c.due_at <= sa.bindparam("now"), *also
    )
    limit = sa.bindparam("share", type_=sa.Integer)
    ripe = ripe.order_by(table.c.due_at).limit(limit)
    return Statement(ripe.with_for_update(skip_locked=True))


def _take(
    table: sa.Table, *columns: sa.Column[Any], stamp: sa.Column[Any] | None = None
) -> Statement:
    # `due_at` again: under READ COMMITTED the loser of a race re-checks it and claims none.
    mine = sa.and_(
        table.c.id.in_(sa.bindparam("ids", expanding=True)), table.c.due_at <= sa.bindparam("ripe")
    )
    until = sa.bindparam("until", type_=table.c.due_at.type)
    by = sa.bindparam("by", type_=sa.Integer)
    claim = sa.update(table).where(mine)
    claim = claim.values(due_at=until, lease=table.c.lease + 1, claimed_by=by)
    if stamp is not None:
        claim = claim.values({stamp: sa.bindparam("now", type_=stamp.type)})
    return Statement(claim.returning(*columns))


def _held_by(
    table: sa.Table, lane: sa.Column[str], *also: sa.ColumnElement[bool]
) -> sa.Select[tuple[str]]:
    """Return the ids of a lane's claimed rows: they are due within the longest lease."""
    due = table.c.due_at
    claimed = due > sa.bindparam("now"), due <= sa.bindparam("until"), _of_lost(table)
    return sa.select(table.c.id).where(lane == sa.bindparam("lane"), *also, *claimed)


def _of_lost(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.claimed_by.in_(sa.bindparam("lost", expanding=True))


def _take_back(table: sa.Table) -> sa.Update:
    mine = table.c.id.in_(sa.bindparam("ids", expanding=True)), _of_lost(table)
    now = sa.bindparam("now", type_=table.c.due_at.type)
    return sa.update(table).where(*mine).values(due_at=now, lease=table.c.lease + 1)


_DUE_JOBS = _due(job, job.c.account, job.c.state == sa.bindparam("state"))
_NEARLY_DUE_JOBS = _due(
    job,
    job.c.account,
    job.c.state == sa.bindparam("state"),
    job.c.claimed_by.is_(None),
    job.c.vendor_task_id.is_not(None),
    job.c.misses == 0,
    sa.or_(job.c.queried_at.is_(None), job.c.queried_at <= sa.bindparam("rested")),
)
_DUE_DELIVERIES = _due(delivery, delivery.c.subscriber_id)
_FORCED_DELIVERIES = _due(delivery, delivery.c.subscriber_id, delivery.c.forced_at.is_not(None))
_TAKE_JOBS = _take(job, *job.c)
_TAKE_QUERIES = _take(job, *job.c, stamp=job.c.queried_at)
_TAKE_DELIVERIES = _take(delivery, *(delivery.c[name] for name in QueuedDelivery.__annotations__))
_LIVE = (JobState.QUEUED, *IN_FLIGHT)
_HELD_JOBS = _held_by(job, job.c.account, job.c.state == sa.bindparam("state"))
_HELD_DELIVERIES = _held_by(delivery, delivery.c.subscriber_id)
_LOCK_JOBS, _LOCK_DELIVERIES = RowLock(job.c.id), RowLock(delivery.c.id)
_FIRST_MISS = sa.and_(job.c.state == JobState.SUBMITTING, job.c.misses == 0)
_TAKE_BACK_JOBS = _take_back(job).values(misses=sa.case((_FIRST_MISS, -1), else_=job.c.misses))
_TAKE_BACK_DELIVERIES = _take_back(delivery)
