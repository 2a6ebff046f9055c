"""Since when queued jobs wait: those that have not reached their start do not."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.foundation.states import JobState

#: Queued jobs of an account that are compared, the next due first: of a longer queue, these have
#: waited longest. Jobs that are tried again later are due later than they were made.
_COMPARED = 1000


def waiting_since(tx: Tx, account: str, now: datetime) -> datetime | None:
    """Return since when the longest waiting queued job of an account waits; None if none does.

    A job waits from its creation, or from its start.
    """
    return tx.scalar(_SINCE, {"account": account, "now": now})


_NEXT = (
    sa.select(job.c.created_at, job.c.start_after)
    .where(
        job.c.account == sa.bindparam("account", type_=sa.String),
        job.c.state == JobState.QUEUED,
        job.c.due_at.is_not(None),
    )
    .order_by(job.c.due_at)
    .limit(_COMPARED)
    .subquery()
)
_SINCE: sa.Select[datetime | None] = sa.select(
    sa.func.min(sa.func.coalesce(_NEXT.c.start_after, _NEXT.c.created_at), type_=job.c.due_at.type)
).where(
    sa.or_(
        _NEXT.c.start_after.is_(None),
        _NEXT.c.start_after <= sa.bindparam("now", type_=job.c.due_at.type),
    )
)
