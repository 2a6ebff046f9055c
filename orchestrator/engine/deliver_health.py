"""The health of a subscriber: it rests, is failing, has recovered, or is disabled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

import sqlalchemy as sa

from orchestrator.database.bulk import bulk_update
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, subscriber
from orchestrator.events.destinations import ResponseClass
from orchestrator.events.subscribers import announce, disable
from orchestrator.foundation.clock import after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import EventType, SubscriberState

if TYPE_CHECKING:
    from orchestrator.engine.deliver_results import Attempted

#: A subscriber is disabled when no attempt has succeeded for this long, never for one bad event.
DISABLE_AFTER = timedelta(days=5)
#: A subscriber is failing after so many failures in a row, or when none has succeeded for this
#: long: the event comes long before it is disabled, and not for each of its restarts.
FAILURES, FAILING_AFTER = 10, timedelta(minutes=5)
#: Retries that one transaction brings forward when a subscriber has recovered.
FLUSH = 500
#: Seconds per try after its last attempt before which a retry is not brought forward.
SPACING = 30


class LaneChange(StrEnum):
    """What attempts changed about their subscriber, with an event to the others."""

    DISABLED = "disabled"
    FAILING = "failing"
    RECOVERED = "recovered"


class Health(TypedDict):
    """The current health of a subscriber."""

    id: str
    state: str
    failing_since: datetime | None
    failures: int | None
    callback_origin: str | None
    ordered: bool | None


def rest_lane(tx: Tx, lane: str, attempts: Sequence[Attempted], now: datetime) -> None:
    """Pause the lane for as long as a failed attempt's `Retry-After` asks."""
    rests = [done.rest for done in attempts if done.result is not ResponseClass.DELIVERED]
    if seconds := max((rest for rest in rests if rest), default=None):
        until, current = after(now, seconds), subscriber.c.resting_until
        shorter = sa.or_(current.is_(None), current < until)
        mine = sa.update(subscriber).where(subscriber.c.id == lane, shorter)
        tx.execute(mine.values(resting_until=until))


def update_health(
    tx: Tx, ids: Ids, row: Health, attempts: Sequence[Attempted], now: datetime
) -> LaneChange | None:
    """Record since when a subscriber has been failing; announce it, or disable the subscriber."""
    if any(done.result is ResponseClass.DELIVERED for done in attempts):
        return _end_failures(tx, ids, row, now)
    is_news = _count_failures(tx, row, len(attempts), now)
    if row["state"] != SubscriberState.ACTIVE:
        return None
    if why := _fatal(row, attempts, now):
        disable(tx, ids, row["id"], why, now)
        return LaneChange.DISABLED
    if is_news:
        announce(tx, ids, row["id"], EventType.SUBSCRIBER_FAILING, now)
        return LaneChange.FAILING
    return None


def _fatal(row: Health, attempts: Sequence[Attempted], now: datetime) -> str | None:
    """Return the reason to disable a subscriber, if any."""
    gone = next((done for done in attempts if done.result is ResponseClass.GONE), None)
    if gone is not None:
        what = gone.error if gone.status is None else gone.status
        return f"the address answered {what}: {gone.response or 'gone'}"[:200]
    since = row["failing_since"]
    if since is not None and now - since >= DISABLE_AFTER:
        return f"every attempt since {since:%Y-%m-%d} has failed"
    return None


def _count_failures(tx: Tx, row: Health, count: int, now: datetime) -> bool:
    """Count failures in a row until they are announced; return whether they are to be, once.

    Those of an inactive subscriber are of attempts that were in flight, and are not counted.
    """
    since, before = row["failing_since"], row["failures"] or 0
    mine = sa.update(subscriber).where(subscriber.c.id == row["id"])
    if since is None:
        tx.execute(mine.values(failing_since=now))
    if before >= FAILURES or row["state"] != SubscriberState.ACTIVE:
        return False
    is_long = since is not None and now - since >= FAILING_AFTER
    failures = FAILURES if is_long else min(before + count, FAILURES)
    # Of two processes that count at the same time, one is the first to reach the limit.
    is_first = sa.or_(subscriber.c.failures.is_(None), subscriber.c.failures < FAILURES)
    counted = tx.execute(mine.where(is_first).values(failures=failures)).rowcount
    return counted > 0 and failures == FAILURES


def _end_failures(tx: Tx, ids: Ids, row: Health, now: datetime) -> LaneChange | None:
    """A subscriber accepted a delivery. Return whether it was failing, once.

    The row was read before it was locked: what counts is the row as it is now.
    """
    over = sa.update(subscriber).where(subscriber.c.id == row["id"])
    over = over.values(failing_since=None, failures=None)
    if tx.execute(over.where(subscriber.c.failures >= FAILURES)).rowcount:
        announce(tx, ids, row["id"], EventType.SUBSCRIBER_RECOVERED, now)
        return LaneChange.RECOVERED
    if row["failing_since"] is not None or row["failures"] is not None:
        tx.execute(over)
    return None


def flush(tx: Tx, subscriber_id: str, now: datetime) -> int:
    """Bring up to `FLUSH` retries of a subscriber forward; return how many.

    Each is due now, or `SPACING` seconds per try after its last attempt: one that recovers again
    and again gets a number of attempts that grows with the root of the time. Those that are claimed
    keep their claim.
    """
    earliest = sa.type_coerce(attempt.c.at, sa.BigInteger) + attempt.c.n * (SPACING * 1000)
    later = sa.type_coerce(delivery.c.due_at, sa.BigInteger) > earliest
    last = sa.and_(attempt.c.delivery_id == delivery.c.id, attempt.c.n == delivery.c.tries)
    waiting = (
        sa.select(delivery.c.id, attempt.c.at, attempt.c.n)
        .join(attempt, last)
        .where(delivery.c.subscriber_id == subscriber_id, delivery.c.due_at > now, later)
        .where(delivery.c.claimed_by.is_(None))
        # What the call before brought forward is at the other end.
        .order_by(delivery.c.due_at.desc())
        .limit(FLUSH)
        .with_for_update(of=delivery, skip_locked=True)
    )
    due = [
        {"was_id": delivery_id, "due_at": max(now, after(at, SPACING * n))}
        for delivery_id, at, n in tx.execute(waiting)
    ]
    _BRING_FORWARD(tx, due)
    return len(due)


_BRING_FORWARD = bulk_update(delivery, "due_at", key=("id",))
