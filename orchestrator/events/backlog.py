"""What subscribers are owed: their pending and their dead deliveries, counted up to a limit.

Each count walks one index of the subscriber, for at most `MOST` entries: a list costs the same
whatever its subscribers are owed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, subscriber
from orchestrator.database.tables.indexes import being
from orchestrator.foundation.states import DeliveryState
from orchestrator.schemas.subscribers import BacklogColumns

#: Deliveries of a subscriber that are counted.
MOST = 1000
_IS_PENDING = delivery.c.due_at.is_not(None)
#: A literal: for a parameter the planner cannot know that the partial index applies.
_IS_DEAD = sa.text(being("delivery.state", DeliveryState.DEAD))


def backlogs(tx: Tx, subscriber_ids: Collection[str]) -> dict[str, BacklogColumns]:
    """Return what each of these subscribers is owed, also of a host of callback URLs."""
    found = tx.execute(_BACKLOGS, {"ids": list(subscriber_ids), "most": MOST})
    return {
        row.id: {"pending": row.pending, "dead": row.dead, "next_due_at": row.next_due_at}
        for row in found
    }


def _mine(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    chosen = sa.select(*columns).select_from(delivery)
    return chosen.where(delivery.c.subscriber_id == subscriber.c.id).correlate(subscriber)


def _counted(condition: sa.ColumnElement[bool] | sa.TextClause) -> sa.ScalarSelect[int]:
    some = (
        _mine(sa.literal(1))
        .where(condition)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .subquery()
    )
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


_BACKLOGS = sa.select(
    subscriber.c.id,
    _counted(_IS_PENDING).label("pending"),
    _counted(_IS_DEAD).label("dead"),
    _mine(sa.func.min(delivery.c.due_at, type_=delivery.c.due_at.type))
    .where(_IS_PENDING)
    .scalar_subquery()
    .label("next_due_at"),
).where(subscriber.c.id.in_(sa.bindparam("ids", expanding=True)))
