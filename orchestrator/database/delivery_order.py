"""Ordered lanes: the deliveries of one job reach a subscriber one after the other, in sequence.

A delivery is blocked while an earlier event of its job is pending or held for the same subscriber:
also one that is being attempted, or waits for its retry. Blocked deliveries that a claim meets are
postponed, so that claims do not read them again and again; `make_next_due` ends that when the one
before them is delivered or dead. Lanes that are not ordered pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import RowLock
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event
from orchestrator.foundation.states import DeliveryState

#: Due deliveries that one statement looks at, and how often a claim looks at one lane.
_WINDOW, _LOOKS = 64, 8


def first_in_order(
    tx: Tx, lane: str, share: int, now: datetime, until: datetime, *, forced: bool
) -> Sequence[str]:
    """Return up to `share` due deliveries of a lane that are not blocked; postpone those that are.

    Blocked ones are due at `until`. No later, although the one before them may be: a claim may
    postpone them while another process ends the order. `forced` looks at those alone that an
    operator asked for.
    """
    ids: list[str] = []
    window = max(share, _WINDOW)
    for _ in range(_LOOKS):
        seen = {"lane": lane, "now": now, "window": window}
        rows = tx.execute(_FORCED if forced else _DUE, seen).all()
        ids = [row.id for row in rows if not row.is_blocked][:share]
        blocked = [row.id for row in rows if row.is_blocked]
        if blocked:
            # Only with a lock on the one before. A transaction that finishes it has committed, and
            # is seen by this new statement; or waits for this one, and sees these rows; or is under
            # way, and may have looked for the next before there was any: then that stays due.
            tx.execute(_POSTPONE, {"lane": lane, "ids": blocked, "until": until})
        if len(ids) == share or not blocked or len(rows) < window:
            break
    return ids


def make_next_due(tx: Tx, finished: Collection[str], now: datetime) -> None:
    """Make the delivery due that comes after each of these, which are delivered or dead now.

    One that is claimed keeps its claim.
    """
    if finished and (ids := {one for one in tx.scalars(_NEXT, {"ids": list(finished)}) if one}):
        _LOCK(tx, ids)
        tx.execute(_MAKE_DUE, {"ids": list(ids), "now": now})


def end_order(tx: Tx, lane: str) -> None:
    """Make all due that may wait for another delivery: the lane is no longer ordered."""
    tx.execute(_END, {"lane": lane})


# Built once: building a statement costs more than running it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_LANE = sa.bindparam("lane", type_=sa.String)
_NOW = sa.bindparam("now", type_=delivery.c.due_at.type)
_UNTIL = sa.bindparam("until", type_=delivery.c.due_at.type)
_UNCLAIMED = (delivery.c.state == DeliveryState.PENDING, delivery.c.claimed_by.is_(None))


def _is_blocked(event_id: sa.ColumnElement[str], *, locks: bool = False) -> sa.ColumnElement[bool]:
    """Return whether the lane has an unfinished delivery that comes before that of an event.

    `locks`: one that no other transaction has locked, which is locked.
    """
    this, earlier, other = event.alias("this"), event.alias("earlier"), delivery.alias("other")
    joined = this.join(
        earlier, sa.and_(earlier.c.job_id == this.c.job_id, earlier.c.sequence < this.c.sequence)
    ).join(other, sa.and_(other.c.event_id == earlier.c.id, other.c.subscriber_id == _LANE))
    unfinished = other.c.state.in_((DeliveryState.PENDING, DeliveryState.HELD))
    found = sa.select(sa.literal(1)).select_from(joined).where(this.c.id == event_id, unfinished)
    if locks:
        found = found.with_for_update(of=other, skip_locked=True)
    # Not EXISTS: PostgreSQL may make it a join of all tables.
    return found.limit(1).scalar_subquery().is_not(None)


def _due(*also: sa.ColumnElement[bool]) -> sa.Select[Any]:
    # A CTE, since PostgreSQL may run a locking subquery more than once.
    first = (
        sa.select(delivery.c.id, delivery.c.event_id, delivery.c.due_at)
        .where(delivery.c.subscriber_id == _LANE, delivery.c.due_at <= _NOW, *also)
        .order_by(delivery.c.due_at)
        .limit(sa.bindparam("window", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("first_due")
    )
    blocked = _is_blocked(first.c.event_id).label("is_blocked")
    return sa.select(first.c.id, blocked).order_by(first.c.due_at)


_DUE, _FORCED = _due(), _due(delivery.c.forced_at.is_not(None))
_POSTPONE = (
    sa.update(delivery)
    .where(delivery.c.id.in_(_IDS), _is_blocked(delivery.c.event_id, locks=True))
    .values(due_at=_UNTIL)
)


def _next() -> sa.Select[Any]:
    this, later, other = event.alias("this"), event.alias("later"), delivery.alias("other")
    same_job = sa.and_(later.c.job_id == this.c.job_id, later.c.sequence > this.c.sequence)
    same_lane = other.c.subscriber_id == delivery.c.subscriber_id
    following = (
        sa.select(other.c.id)
        .select_from(
            this.join(later, same_job).join(
                other, sa.and_(other.c.event_id == later.c.id, same_lane)
            )
        )
        .where(this.c.id == delivery.c.event_id, other.c.state == DeliveryState.PENDING)
        .order_by(later.c.sequence)
        .limit(1)
        .correlate(delivery)
        .scalar_subquery()
    )
    return sa.select(following).where(delivery.c.id.in_(_IDS))


_NEXT, _LOCK = _next(), RowLock(delivery.c.id)
#: Whatever its time: a claim that postpones it at this moment is waited for.
_MAKE_DUE = sa.update(delivery).where(delivery.c.id.in_(_IDS), *_UNCLAIMED).values(due_at=_NOW)
_END = (
    sa.update(delivery)
    .where(delivery.c.subscriber_id == _LANE, delivery.c.due_at > delivery.c.created_at)
    .where(delivery.c.tries == 0, *_UNCLAIMED)
    .values(due_at=delivery.c.created_at)
)
