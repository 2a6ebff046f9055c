"""The results of attempts: a delivery is delivered, retried, dead or held.

A success is a fact and is never fenced. A failure is bookkeeping and is fenced by the lease: a
claim that has been taken over decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, RowLock, bulk_insert, bulk_update, one_of
from orchestrator.database.delivery_order import make_next_due
from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine.deliver_addresses import AddressFailure, record_addresses
from orchestrator.engine.deliver_health import Health, LaneChange, rest_lane, update_health
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.clock import Rng, after, retry_delay, tries_by
from orchestrator.foundation.ids import Ids, made_at
from orchestrator.foundation.retry_policy import RetryPolicy
from orchestrator.foundation.states import DeliveryState, SubscriberState

#: Seconds that a result waits for others, at most.
MAX_WAIT = 0.002


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
    policy: RetryPolicy
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


def record(
    tx: Tx, ids: Ids, rng: Rng, attempts: Sequence[Attempted], now: datetime
) -> list[LaneChange | None]:
    """Unit of work: record attempts. Return for each what it changed about its subscriber.

    Rows are locked in the order of all units of work: deliveries by id, addresses by key,
    subscribers by id.
    """
    _LOCK_DELIVERIES(tx, {done.row["id"] for done in attempts})
    # As they are now: a subscriber may have been paused during the attempt.
    lanes = _CURRENT(tx, sorted({done.subscriber["id"] for done in attempts}))
    current = {row[0]: cast(Health, dict(zip(_HEALTH, row, strict=True))) for row in lanes}
    delivered = [done for done in attempts if done.result is ResponseClass.DELIVERED]
    failed = [done for done in attempts if done.result is not ResponseClass.DELIVERED]
    succeeded = [_values(done, DeliveryState.DELIVERED, None, now) for done in delivered]
    others = [_failed_values(one, current.get(one.subscriber["id"]), rng, now) for one in failed]
    _DELIVERED(tx, succeeded)
    _FAILED(tx, others)
    make_next_due(tx, _ended_in_order(attempts, current, [*succeeded, *others]), now)
    _ATTEMPTS(tx, [_attempt_values(done) for done in attempts])
    failures = [
        AddressFailure(done.address, done.subscriber["id"], done.error, done.rest or 0.0)
        for done in failed
        if done.address and done.subscriber["id"] in current
    ]
    record_addresses(tx, {done.address for done in delivered if done.address}, failures, now)
    changes = _record_health(tx, ids, current, attempts, now)
    return _once(changes, attempts)


def _once(
    changes: Mapping[str, LaneChange], attempts: Sequence[Attempted]
) -> list[LaneChange | None]:
    """Return each change with one attempt, since it is counted and logged with it.

    That is one that the address answered with `gone`, if there is one.
    """
    left, found = dict(changes), list[LaneChange | None]([None] * len(attempts))
    for n in sorted(range(len(found)), key=lambda n: attempts[n].result is not ResponseClass.GONE):
        found[n] = left.pop(attempts[n].subscriber["id"], None)
    return found


def _ended_in_order(
    attempts: Sequence[Attempted], current: Mapping[str, Health], values: Sequence[dict[str, Any]]
) -> list[str]:
    """Return the deliveries of ordered subscribers that no longer hold back others."""
    ordered = {lane for lane, row in current.items() if row["ordered"]}
    mine = {done.row["id"] for done in attempts if done.subscriber["id"] in ordered}
    return [row["was_id"] for row in values if row["done_at"] and row["was_id"] in mine]


def _record_health(
    tx: Tx, ids: Ids, current: Mapping[str, Health], attempts: Sequence[Attempted], now: datetime
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
        rest_lane(tx, lane, by_lane[lane], now)
        if change := update_health(tx, ids, current[lane], by_lane[lane], now):
            changes[lane] = change
    return changes


def _changes(row: Health, attempts: Sequence[Attempted]) -> bool:
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
    done: Attempted, subscriber_now: Health | None, rng: Rng, now: datetime
) -> dict[str, Any]:
    """Return the new values of a delivery whose attempt failed: retried, held or dead.

    A try before its time, of a subscriber that recovered for a moment or an operator, does not
    shorten the schedule: what counts is at most what the schedule makes in the age of the delivery.
    """
    schedule = done.policy.schedule if done.result is ResponseClass.LATER else ()
    if done.result is ResponseClass.SHORTLY:
        schedule = done.policy.short_schedule
    age = (now - made_at(done.row["id"])).total_seconds()
    wait = retry_delay(schedule, min(done.row["tries"] + 1, tries_by(schedule, age)), rng)
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


_LOCK_DELIVERIES, _LOCK_SUBSCRIBERS = RowLock(delivery.c.id), RowLock(subscriber.c.id)
_HEALTH = tuple(Health.__annotations__)
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
