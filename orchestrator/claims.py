"""Claiming what is due: fair between lanes, fenced by a lease, at a cost that does not grow with what is not due.

A claim pushes `due_at` forward by the lease and counts `lease` up. A crash gives the work back by time alone: there is
no "running" state, no heartbeat and no rescuer. Finishing is fenced: it changes nothing once the lease has moved on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from orchestrator.clock import after
from orchestrator.states import IN_FLIGHT, JobState
from orchestrator.store import Tx
from orchestrator.tables import account_state, delivery, job

#: Rows one lane gives at a time while others wait.
QUANTUM = 16


def lanes(tx: Tx, column: sa.Column[str], now: datetime, *also: sa.ColumnElement[bool]) -> list[str]:
    """Return the lanes of a table that have something due (`also`: of that kind), hopping through its partial index.

    A loose index scan (https://wiki.postgresql.org/wiki/Loose_indexscan): it touches a few index entries for each
    lane, however many rows a lane has.
    """
    due = column.table.c.due_at
    hop = sa.select(sa.func.min(column).label("lane")).where(due.is_not(None)).cte("hop", recursive=True)
    onward = sa.select(sa.func.min(column)).where(due.is_not(None), column > hop.c.lane).scalar_subquery()
    hop = hop.union_all(sa.select(onward).where(hop.c.lane.is_not(None)))
    ripe = sa.exists().where(column == hop.c.lane, due <= now, *also)
    return list(tx.scalars(sa.select(hop.c.lane).where(hop.c.lane.is_not(None), ripe)))


def take_jobs(
    tx: Tx, state: JobState, quanta: Mapping[str, int], now: datetime, lease: float, room: int
) -> list[sa.RowMapping]:
    """Claim the oldest due jobs in `state` for `lease` seconds: so many of each account, `room` in all."""
    due = sa.select(job.c.id).where(job.c.state == state, job.c.due_at <= now).order_by(job.c.due_at)
    return _claim(tx, job, _oldest(tx, due, job.c.account, quanta, room), now, lease)


def take_deliveries(tx: Tx, quanta: Mapping[str, int], now: datetime, lease: float, room: int) -> list[sa.RowMapping]:
    """Claim the oldest due deliveries for `lease` seconds: so many of each subscriber, `room` in all."""
    due = sa.select(delivery.c.id).where(delivery.c.due_at <= now).order_by(delivery.c.due_at)
    return _claim(tx, delivery, _oldest(tx, due, delivery.c.subscriber_id, quanta, room), now, lease)


def _oldest(
    tx: Tx, due: sa.Select[tuple[str]], lane: sa.Column[str], quanta: Mapping[str, int], room: int
) -> list[str]:
    ids: list[str] = []
    for name, quantum in quanta.items():
        if len(ids) >= room:
            break
        share = min(quantum, room - len(ids))
        ids += tx.scalars(due.where(lane == name).limit(share).with_for_update(skip_locked=True))
    return ids


def _claim(tx: Tx, table: sa.Table, ids: list[str], now: datetime, lease: float) -> list[sa.RowMapping]:
    if not ids:
        return []
    # `due_at <= now` again: under READ COMMITTED the loser of a race re-checks it and takes nothing.
    claim = (
        sa.update(table)
        .where(table.c.id.in_(ids), table.c.due_at <= now)
        .values(due_at=after(now, lease), lease=table.c.lease + 1)
        .returning(*table.c)
    )
    return sorted(tx.execute(claim).mappings(), key=lambda row: ids.index(row["id"]))


def free_slots(tx: Tx, limits: Mapping[str, int], now: datetime) -> dict[str, int]:
    """Return how many more jobs each account may have in flight; paused and full accounts are left out.

    The account's row is locked first: a limit enforced by counting alone overshoots when two count at once.
    """
    rows = tx.execute(
        sa.select(account_state.c.account, account_state.c.paused_until)
        .where(account_state.c.account.in_(limits))
        .order_by(account_state.c.account)
        .with_for_update()
    )
    free: dict[str, int] = {}
    for account, paused_until in rows:
        if paused_until is None or paused_until <= now:
            room = limits[account] - in_flight(tx, account)
            if room > 0:
                free[account] = room
    return free


def in_flight(tx: Tx, account: str) -> int:
    """Return how many jobs hold a slot at the vendor."""
    held = sa.select(sa.func.count()).where(
        job.c.account == account, job.c.state.in_(IN_FLIGHT), job.c.due_at.is_not(None)
    )
    return tx.scalar(held) or 0
