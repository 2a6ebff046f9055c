"""What keeps the house in order without anybody asking: rows every account needs, and rows nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.bulk import insert
from orchestrator.clock import after
from orchestrator.ids import earliest
from orchestrator.runtime import Runtime
from orchestrator.store import Tx
from orchestrator.tables import account_state, attempt, delivery, event, job, push, trace

#: Jobs removed in one transaction, so that retention never stalls a claim.
_BATCH = 100
_DAY = 86400.0


def prepare(tx: Tx, accounts: Sequence[str]) -> None:
    """Make sure every configured account has its row of state: its lock guards the account's limit."""
    if accounts:
        tx.execute(
            insert(tx.dialect.name, account_state).on_conflict_do_nothing(), [{"account": name} for name in accounts]
        )


async def retire(rt: Runtime) -> None:
    """Delete jobs that ended longer ago than the retention, with everything about them, a few at a time."""
    before = after(rt.clock.now(), -_DAY * rt.settings.retention_days)
    await rt.store.write(_delete_notices, before)
    while await rt.store.write(_delete_old, before) == _BATCH:
        rt.store.checkpoint()


def _delete_notices(tx: Tx, before: datetime) -> None:
    """Delete old events that are about no job, with their deliveries."""
    old = sa.select(event.c.id).where(event.c.job_id.is_(None), event.c.created_at < before)
    deliveries = sa.select(delivery.c.id).where(delivery.c.event_id.in_(old))
    tx.execute(sa.delete(attempt).where(attempt.c.delivery_id.in_(deliveries)))
    tx.execute(sa.delete(delivery).where(delivery.c.event_id.in_(old)))
    tx.execute(sa.delete(event).where(event.c.job_id.is_(None), event.c.created_at < before))


def _delete_old(tx: Tx, before: datetime) -> int:
    """Delete a batch of old final jobs whose deliveries are all done; return how many."""
    owed = (
        sa.select(delivery.c.id)
        .join(event, event.c.id == delivery.c.event_id)
        .where(event.c.job_id == job.c.id, delivery.c.due_at.is_not(None))
        .exists()
    )
    # Ids are in the order of time: only rows that are old enough are looked at.
    aged = job.c.id < earliest("job", before)
    old = sa.select(job.c.id).where(aged, job.c.due_at.is_(None), job.c.finished_at < before, ~owed)
    ids = list(tx.scalars(old.order_by(job.c.id).limit(_BATCH)))
    if ids:
        events = sa.select(event.c.id).where(event.c.job_id.in_(ids))
        deliveries = sa.select(delivery.c.id).where(delivery.c.event_id.in_(events))
        tx.execute(sa.delete(attempt).where(attempt.c.delivery_id.in_(deliveries)))
        tx.execute(sa.delete(delivery).where(delivery.c.event_id.in_(events)))
        for table in (event, push, trace):
            tx.execute(sa.delete(table).where(table.c.job_id.in_(ids)))
        tx.execute(sa.delete(job).where(job.c.id.in_(ids)))
    return len(ids)
