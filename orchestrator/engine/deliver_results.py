"""How attempts end: delivered, later, dead, or held; and when a subscriber is let rest or switched off.

Success is a fact and is never fenced. Failure is bookkeeping and is: a claim that has moved on decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import inserting, updating
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, subscriber
from orchestrator.events.destinations import ResponseClass
from orchestrator.events.subscribers import disable
from orchestrator.foundation.clock import SHORT_SCHEDULE, STANDARD_SCHEDULE, Rng, after, retry_delay
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, SubscriberState

Row = Mapping[Any, Any]

#: Seconds that an outcome waits for others at most.
MAX_WAIT = 0.002
#: A subscriber is switched off when nothing has succeeded for this long, never for one bad event.
PATIENCE = timedelta(days=5)


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt at a delivery: `row` as it was claimed, `to` its subscriber, `rest` the seconds it asked for."""

    row: Row
    to: Row
    at: datetime
    ms: int
    verdict: ResponseClass
    status: int | None = None
    error: str | None = None
    response: str | None = None
    rest: float | None = None


class BatchCompleter:
    """Lets attempts that end one soon after the other be recorded together: one more costs a tenth of the first.

    Who ends waits for company until all that are under way have ended, a moment at most. So one alone does not wait,
    and one that hangs makes nobody wait for longer.
    """

    def __init__(self) -> None:
        self._ended = 0
        self._door = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, under_way: int) -> None:
        """Return when there is company enough, with so many under way: the caller's own is one of them."""
        self._ended += 1
        if self._ended >= under_way:
            self._go()
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MAX_WAIT, self._go)
        await self._door.wait()

    def _go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        door, self._door, self._timer, self._ended = self._door, asyncio.Event(), None, 0
        door.set()


def record(tx: Tx, ids: Ids, rng: Rng, attempted: Sequence[Attempted], now: datetime) -> list[bool]:
    """Write attempts and what follows from them; tell for each whether it switched its subscriber off."""
    _PROOFS(tx, [_proof(one) for one in attempted])
    delivered = [one for one in attempted if one.verdict is ResponseClass.DELIVERED]
    _DELIVERED(tx, [_ended(one, now) for one in delivered])
    _WELL(
        tx,
        [
            {"was_id": person, "failing_since": None}
            for person in sorted({one.to["id"] for one in delivered})
        ],
    )
    off = _record_failed(tx, ids, rng, attempted, now) if len(delivered) < len(attempted) else ()
    return [one.to["id"] in off for one in attempted]


def _record_failed(
    tx: Tx, ids: Ids, rng: Rng, attempted: Sequence[Attempted], now: datetime
) -> set[str]:
    """Write what follows from failures; return whom they switched off."""
    failed = [one for one in attempted if one.verdict is not ResponseClass.DELIVERED]
    wanted = {"ids": list({one.to["id"] for one in failed})}
    # As they are now: one may have been paused while it was being called.
    current = {row["id"]: row for row in tx.execute(_CURRENT, wanted).mappings()}
    _FAILED(tx, [_scheduled(one, current.get(one.to["id"]), rng, now) for one in failed])
    by_person: defaultdict[str, list[Attempted]] = defaultdict(list)
    for one in attempted:
        by_person[one.to["id"]].append(one)
    off = set()
    for person, row in sorted(current.items()):
        if reason := _health(tx, row, by_person[person], now):
            disable(tx, ids, person, reason, now)
            off.add(person)
    return off


def _proof(one: Attempted) -> dict[str, Any]:
    return {
        "delivery_id": one.row["id"],
        "n": one.row["tries"] + 1,
        "at": one.at,
        "status": one.status,
        "ms": one.ms,
        "error": one.error,
        "response": one.response,
    }


_CURRENT = sa.select(
    subscriber.c.id, subscriber.c.state, subscriber.c.failing_since, subscriber.c.callback_origin
).where(subscriber.c.id.in_(sa.bindparam("ids", expanding=True)))
_PROOFS = inserting(
    attempt, "delivery_id", "n", "at", "status", "ms", "error", "response",
    but=lambda made: made.on_conflict_do_nothing(),
)  # fmt: skip
_RESULT = ("state", "due_at", "last_status", "last_error", "done_at")
_OPEN = delivery.c.state != sa.literal_column(f"'{DeliveryState.DELIVERED}'")
_ONE_MORE = delivery.c.tries + sa.literal_column("1")
_DELIVERED = updating(delivery, *_RESULT, key=("id",), where=_OPEN, also={"tries": _ONE_MORE})
# Not one more than there are: a unit may be run again.
_FAILED = updating(delivery, *_RESULT, "tries", key=("id", "lease"), where=_OPEN)
_WELL = updating(
    subscriber, "failing_since", key=("id",), where=subscriber.c.failing_since.is_not(None)
)


def _ended(one: Attempted, now: datetime) -> dict[str, Any]:
    return _result(one, DeliveryState.DELIVERED, None, now)


def _scheduled(one: Attempted, person: Row | None, rng: Rng, now: datetime) -> dict[str, Any]:
    """Return what becomes of a delivery that was not delivered."""
    schedule = {ResponseClass.LATER: STANDARD_SCHEDULE, ResponseClass.SHORTLY: SHORT_SCHEDULE}.get(
        one.verdict, ()
    )
    wait = retry_delay(schedule, one.row["tries"] + 1, rng)
    state, due = DeliveryState.PENDING, None
    if wait is None or person is None:
        state = DeliveryState.DEAD
    elif person["state"] != SubscriberState.ACTIVE:
        state = DeliveryState.HELD
    else:
        due = after(now, max(wait, one.rest or 0.0))
    return _result(one, state, due, now if state is DeliveryState.DEAD else None)


def _result(
    one: Attempted, state: DeliveryState, due: datetime | None, done: datetime | None
) -> dict[str, Any]:
    return {
        "was_id": one.row["id"], "was_lease": one.row["lease"], "state": state, "due_at": due,
        "tries": one.row["tries"] + 1, "last_status": one.status, "last_error": one.error, "done_at": done,
    }  # fmt: skip


def _health(tx: Tx, person: Row, tried: Sequence[Attempted], now: datetime) -> str | None:
    """Keep the health of a subscriber that failed; return the reason to switch it off, if there is one."""
    mine = sa.update(subscriber).where(subscriber.c.id == person["id"])
    rest = max(
        (one.rest for one in tried if one.rest and one.verdict is not ResponseClass.DELIVERED),
        default=None,
    )
    if rest is not None:
        until, asked = after(now, rest), subscriber.c.resting_until
        tx.execute(mine.where(sa.or_(asked.is_(None), asked < until)).values(resting_until=until))
    if any(one.verdict is ResponseClass.DELIVERED for one in tried):
        return None
    if person["failing_since"] is None:
        tx.execute(mine.values(failing_since=now))
    # A lane of callback URLs belongs to many jobs: one address that is gone says nothing about the others.
    if person["callback_origin"] is not None or person["state"] != SubscriberState.ACTIVE:
        return None
    gone = next((one for one in tried if one.verdict is ResponseClass.GONE), None)
    if gone is not None:
        return f"the address answered {gone.status}: {gone.response or 'gone'}"[:200]
    if person["failing_since"] is not None and now - person["failing_since"] >= PATIENCE:
        return f"every attempt since {person['failing_since']:%Y-%m-%d} has failed"
    return None
