"""The results of attempts: delivered, retried, dead or held; a subscriber rests or is disabled.

A success is a fact and is never fenced. A failure is bookkeeping and is fenced by the lease: a
claim that has been taken over decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypedDict, cast

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, RowLock, bulk_insert, bulk_update, one_of
from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine.deliver_addresses import AddressFailure, record_addresses
from orchestrator.events.destinations import ResponseClass
from orchestrator.events.subscribers import announce, disable
from orchestrator.foundation.clock import SHORT_SCHEDULE, STANDARD_SCHEDULE, Rng, after, retry_delay
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, EventType, SubscriberState

#: Seconds that a result waits for others, at most.
MAX_WAIT = 0.002
#: A subscriber is disabled when no attempt has succeeded for this long, never for one bad event.
DISABLE_AFTER = timedelta(days=5)
#: A subscriber is failing after so many failures in a row, or when none has succeeded for this
#: long: others are told long before it is disabled, and not of every restart.
FAILURES, FAILING_AFTER = 10, timedelta(minutes=5)
#: Retries that one transaction makes due when a subscriber has recovered.
FLUSH = 500


class LaneChange(StrEnum):
    """What attempts changed about their subscriber, with an event to the others."""

    DISABLED = "disabled"
    FAILING = "failing"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt: the delivery as it was claimed, and what its subscriber answered.

    `address` is the key of the callback URL, if it went to one. `ms` is its duration, `rest` the
    seconds of a `Retry-After`.
    """

    row: QueuedDelivery
    subscriber: SubscriberRow
    at: datetime
    ms: int
    result: ResponseClass
    status: int | None = None
    error: str | None = None
    response: str | None = None
    rest: float | None = None
    address: str | None = None


class BatchCompleter:
    """Batch completer: batches finished attempts into one commit (group commit).

    Each waits up to `MAX_WAIT`, or until none is in progress. So a single attempt does not wait,
    and one that hangs delays the others by at most that. The second result of a commit costs a
    tenth of the first.
    """

    def __init__(self) -> None:
        self._finished = 0
        self._flushed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, in_progress: int) -> None:
        """Return when the batch is complete. `in_progress` counts the caller's own attempt."""
        self._finished += 1
        if self._finished >= in_progress:
            self._flush()
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MAX_WAIT, self._flush)
        await self._flushed.wait()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        flushed, self._flushed = self._flushed, asyncio.Event()
        self._timer, self._finished = None, 0
        flushed.set()


class _Health(TypedDict):
    """The current health of a subscriber."""

    id: str
    state: str
    failing_since: datetime | None
    failures: int | None
    callback_origin: str | None


def record(
    tx: Tx, ids: Ids, rng: Rng, attempts: Sequence[Attempted], now: datetime
) -> list[LaneChange | None]:
    """Unit of work: record attempts. Return for each what changed about its subscriber.

    Rows are locked in the order of all units of work: deliveries by id, addresses by key,
    subscribers by id.
    """
    _LOCK_DELIVERIES(tx, {done.row["id"] for done in attempts})
    # As they are now: a subscriber may have been paused during the attempt.
    lanes = _CURRENT(tx, sorted({done.subscriber["id"] for done in attempts}))
    current = {row[0]: cast(_Health, dict(zip(_HEALTH, row, strict=True))) for row in lanes}
    delivered = [done for done in attempts if done.result is ResponseClass.DELIVERED]
    failed = [done for done in attempts if done.result is not ResponseClass.DELIVERED]
    _DELIVERED(tx, [_values(done, DeliveryState.DELIVERED, None, now) for done in delivered])
    _FAILED(
        tx, [_failed_values(one, current.get(one.subscriber["id"]), rng, now) for one in failed]
    )
    _ATTEMPTS(tx, [_attempt_values(done) for done in attempts])
    failures = [
        AddressFailure(done.address, done.subscriber["id"], done.error, done.rest or 0.0)
        for done in failed
        if done.address and done.subscriber["id"] in current
    ]
    record_addresses(tx, {done.address for done in delivered if done.address}, failures, now)
    changes = _record_health(tx, ids, current, attempts, now)
    return [changes.get(done.subscriber["id"]) for done in attempts]


def _record_health(
    tx: Tx, ids: Ids, current: Mapping[str, _Health], attempts: Sequence[Attempted], now: datetime
) -> dict[str, LaneChange]:
    """Record what attempts show about their subscribers. Return what changed about them.

    The lane of a host has no health: its addresses have.
    """
    by_lane: defaultdict[str, list[Attempted]] = defaultdict(list)
    for done in attempts:
        by_lane[done.subscriber["id"]].append(done)
    changed = {lane for lane, row in current.items() if _changes(row, by_lane[lane])}
    _LOCK_SUBSCRIBERS(tx, changed)
    changes: dict[str, LaneChange] = {}
    for lane in sorted(changed):
        _rest(tx, lane, by_lane[lane], now)
        if change := _update_health(tx, ids, current[lane], by_lane[lane], now):
            changes[lane] = change
    return changes


def _changes(row: _Health, attempts: Sequence[Attempted]) -> bool:
    """True unless attempts are successes of a healthy subscriber, or at addresses of a host."""
    failed = any(done.result is not ResponseClass.DELIVERED for done in attempts)
    is_suspect = row["failing_since"] is not None or row["failures"] is not None
    return row["callback_origin"] is None and (failed or is_suspect)


def _attempt_values(done: Attempted) -> dict[str, Any]:
    return {
        "delivery_id": done.row["id"],
        "n": done.row["tries"] + 1,
        "at": done.at,
        "status": done.status,
        "ms": done.ms,
        "error": done.error,
        "response": done.response,
    }


def _failed_values(
    done: Attempted, subscriber_now: _Health | None, rng: Rng, now: datetime
) -> dict[str, Any]:
    """Return the new values of a delivery whose attempt failed: retried, held or dead."""
    schedules = {ResponseClass.LATER: STANDARD_SCHEDULE, ResponseClass.SHORTLY: SHORT_SCHEDULE}
    wait = retry_delay(schedules.get(done.result, ()), done.row["tries"] + 1, rng)
    if wait is None or subscriber_now is None:
        return _values(done, DeliveryState.DEAD, None, now)
    if subscriber_now["state"] != SubscriberState.ACTIVE:
        return _values(done, DeliveryState.HELD, None, None)
    return _values(done, DeliveryState.PENDING, after(now, max(wait, done.rest or 0.0)), None)


def _values(
    done: Attempted, state: DeliveryState, due: datetime | None, ended: datetime | None
) -> dict[str, Any]:
    return {
        "was_id": done.row["id"],
        "was_lease": done.row["lease"],
        "state": state,
        "due_at": due,
        "forced_at": None,
        "tries": done.row["tries"] + 1,
        "last_status": done.status,
        "last_error": done.error,
        "done_at": ended,
    }


def _rest(tx: Tx, lane: str, attempts: Sequence[Attempted], now: datetime) -> None:
    """Pause the lane for as long as a failed attempt's `Retry-After` asks."""
    rests = [done.rest for done in attempts if done.result is not ResponseClass.DELIVERED]
    if seconds := max((rest for rest in rests if rest), default=None):
        until, current = after(now, seconds), subscriber.c.resting_until
        shorter = sa.or_(current.is_(None), current < until)
        mine = sa.update(subscriber).where(subscriber.c.id == lane, shorter)
        tx.execute(mine.values(resting_until=until))


def _update_health(
    tx: Tx, ids: Ids, row: _Health, attempts: Sequence[Attempted], now: datetime
) -> LaneChange | None:
    """Record since when a subscriber has been failing; announce it, or disable the subscriber."""
    if any(done.result is ResponseClass.DELIVERED for done in attempts):
        return _end_failures(tx, ids, row, now)
    if row["state"] == SubscriberState.ACTIVE and (why := _fatal(row, attempts, now)):
        _count_failures(tx, row, len(attempts), now)
        disable(tx, ids, row["id"], why, now)
        return LaneChange.DISABLED
    if _count_failures(tx, row, len(attempts), now):
        announce(tx, ids, row["id"], EventType.SUBSCRIBER_FAILING, now)
        return LaneChange.FAILING
    return None


def _fatal(row: _Health, attempts: Sequence[Attempted], now: datetime) -> str | None:
    """Return the reason to disable a subscriber, if any."""
    gone = next((done for done in attempts if done.result is ResponseClass.GONE), None)
    if gone is not None:
        return f"the address answered {gone.status}: {gone.response or 'gone'}"[:200]
    since = row["failing_since"]
    if since is not None and now - since >= DISABLE_AFTER:
        return f"every attempt since {since:%Y-%m-%d} has failed"
    return None


def _count_failures(tx: Tx, row: _Health, count: int, now: datetime) -> bool:
    """Count failures in a row until they are announced; return whether they are to be, once."""
    since, before = row["failing_since"], row["failures"] or 0
    if since is not None and before >= FAILURES:
        return False
    is_long = since is not None and now - since >= FAILING_AFTER
    failures = FAILURES if is_long else min(before + count, FAILURES)
    # Of two processes that count at the same time, one is the first to reach the limit.
    is_first = sa.or_(subscriber.c.failures.is_(None), subscriber.c.failures < FAILURES)
    mine = sa.update(subscriber).where(subscriber.c.id == row["id"])
    counted = tx.execute(mine.where(is_first).values(failures=failures)).rowcount
    if since is None:
        tx.execute(mine.values(failing_since=now))
    return counted > 0 and failures == FAILURES


def _end_failures(tx: Tx, ids: Ids, row: _Health, now: datetime) -> LaneChange | None:
    """A subscriber accepted a delivery. Return whether it was failing, once."""
    mine = sa.update(subscriber).where(subscriber.c.id == row["id"])
    known = subscriber.c.failures.is_not(None)
    was_failing = (row["failures"] or 0) >= FAILURES
    counted = tx.execute(mine.where(known).values(failing_since=None, failures=None)).rowcount
    if not counted and row["failing_since"] is not None:
        tx.execute(mine.values(failing_since=None))
    if not (counted and was_failing):
        return None
    announce(tx, ids, row["id"], EventType.SUBSCRIBER_RECOVERED, now)
    return LaneChange.RECOVERED


def flush(tx: Tx, subscriber_id: str, now: datetime) -> int:
    """Make up to `FLUSH` retries of a subscriber due now; return how many.

    Those that are claimed keep their claim.
    """
    waiting = (
        sa.select(delivery.c.id)
        .where(
            delivery.c.subscriber_id == subscriber_id,
            delivery.c.due_at > now,
            delivery.c.claimed_by.is_(None),
            delivery.c.tries > 0,
        )
        .order_by(delivery.c.due_at)
        .limit(FLUSH)
        .with_for_update(skip_locked=True)
    )
    ids = list(tx.scalars(waiting))
    if ids:
        tx.execute(sa.update(delivery).where(delivery.c.id.in_(ids)).values(due_at=now))
    return len(ids)


_LOCK_DELIVERIES, _LOCK_SUBSCRIBERS = RowLock(delivery.c.id), RowLock(subscriber.c.id)
_HEALTH = tuple(_Health.__annotations__)
_CURRENT = BulkSelect(
    sa.select(*(subscriber.c[name] for name in _HEALTH)).where(one_of(subscriber.c.id))
)
_ATTEMPTS = bulk_insert(
    attempt, "delivery_id", "n", "at", "status", "ms", "error", "response",
    on_conflict=lambda made: made.on_conflict_do_nothing(),
)  # fmt: skip
_RESULT = ("state", "due_at", "forced_at", "last_status", "last_error", "done_at")
_OPEN = delivery.c.state != sa.literal_column(f"'{DeliveryState.DELIVERED}'")
_ONE_MORE = delivery.c.tries + sa.literal_column("1")
_DELIVERED = bulk_update(delivery, *_RESULT, key=("id",), where=_OPEN, also={"tries": _ONE_MORE})
# Sets `tries` instead of adding one: a unit of work may run again.
_FAILED = bulk_update(delivery, *_RESULT, "tries", key=("id", "lease"), where=_OPEN)
