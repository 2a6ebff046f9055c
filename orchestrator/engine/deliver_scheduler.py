"""The delivery scheduler: round-robin over lanes, each within its slots and its rate limit.

Every lane with due deliveries is served once per round. A lane gets at most a quantum of deliveries
at a time while others wait, so one with a long backlog does not starve the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypedDict

import sqlalchemy as sa

from orchestrator.database import queue
from orchestrator.database.bulk import bulk_update
from orchestrator.database.membership import UNBOUND
from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.statements import Statement
from orchestrator.database.store import Tx
from orchestrator.database.tables import callback_address, delivery, event, job, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine.worker import Claimed
from orchestrator.foundation.clock import Clock, Rng
from orchestrator.foundation.retry_policy import RetryPolicy
from orchestrator.foundation.states import DELETED, DeliveryState
from orchestrator.foundation.token_bucket import TokenBucket

#: Seconds of a lease beyond the longest deadline of an attempt that is claimed with it.
LEASE_MARGIN = 30.0
#: Lanes that one look serves.
_LANES_AT_ONCE = 256
#: Token buckets that are kept before full ones are dropped.
_MAX_BUCKETS = 1024


class QueuedEvent(TypedDict):
    """An event with what is needed to send it: `callback_url` encrypted, its key and its rest."""

    id: str
    job_id: str | None
    type: str
    body: bytes
    callback_url: str | None
    callback_key: str | None
    resting_until: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A claimed delivery, its event, its subscriber and how it is retried."""

    row: QueuedDelivery
    event: QueuedEvent
    subscriber: SubscriberRow
    policy: RetryPolicy

    def rests(self, now: datetime) -> bool:
        """True if it is for a callback URL that rests, and an operator has not forced it."""
        until = self.event["resting_until"] if self.subscriber["callback_origin"] else None
        return until is not None and until > now and self.row["forced_at"] is None


@dataclass(slots=True)
class Lane:
    """A subscriber's lane during one look: free slots, what it may give, and what it gave.

    One that rests gives forced deliveries alone.
    """

    subscriber: SubscriberRow
    policy: RetryPolicy
    free: int
    resting: bool
    quantum: int = 0
    given: int = 0

    def claim(self, row: QueuedDelivery, event: QueuedEvent) -> ClaimedDelivery:
        """Return a claim of this lane."""
        return ClaimedDelivery(row, event, self.subscriber, self.policy)

    def exhausted(self, share: int) -> bool:
        """True if it gave its whole share although it had more free slots."""
        return self.given == share < self.free

    @property
    def lease(self) -> float:
        """The seconds of a claim: longer than an attempt takes."""
        return self.policy.deadline + LEASE_MARGIN

    @property
    def full(self) -> bool:
        """True if its slots or its rate limit kept it from giving more."""
        return not self.resting and (self.free <= 0 or 0 < self.quantum == self.given)


class DeliveryScheduler:
    """The scheduler of one process: it knows how many attempts each lane has in progress here."""

    def __init__(self, clock: Clock, rng: Rng, policy: RetryPolicy) -> None:
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._in_progress: Counter[str] = Counter()
        #: Attempts in progress in all lanes together.
        self.in_progress = 0
        self._buckets: dict[str, TokenBucket] = {}
        #: Lanes that had something due at the start of the round and have not been served since.
        self._round: list[str] = []

    def begin(self, claims: Iterable[ClaimedDelivery]) -> None:
        """Occupy a slot for each attempt."""
        lanes = [claim.subscriber["id"] for claim in claims]
        self._in_progress.update(lanes)
        self.in_progress += len(lanes)

    def end(self, claim: ClaimedDelivery) -> None:
        """Free the slot of an attempt. A lane without any is forgotten: lanes come and go."""
        lane = claim.subscriber["id"]
        self.in_progress -= 1
        self._in_progress[lane] -= 1
        if not self._in_progress[lane]:
            del self._in_progress[lane]

    def take(self, tx: Tx, room: int, by: int = UNBOUND) -> Claimed[ClaimedDelivery]:
        """Claim up to `room` deliveries from lanes not yet served this round.

        They are claimed for the process `by`. `full`: a lane may have more due than it has free
        slots.
        """
        now = self._clock.now()
        if claims := self._serve_round(tx, room, now, by):
            # The lanes that were served before in this round may have more.
            claims.more = True
            return claims
        self._round = queue.lanes(tx, delivery.c.subscriber_id, now)
        self._rng.shuffle(self._round)
        return self._serve_round(tx, room, now, by)

    def _serve_round(self, tx: Tx, room: int, now: datetime, by: int) -> Claimed[ClaimedDelivery]:
        """Claim from the next lanes of the round that have something to give."""
        claims: Claimed[ClaimedDelivery] = Claimed()
        more = full = False
        while self._round and not claims:
            names, self._round = self._round[:_LANES_AT_ONCE], self._round[_LANES_AT_ONCE:]
            claims = self._serve(tx, names, room, now, by)
            more, full = more or claims.more, full or claims.full
        claims.more, claims.full = more or bool(self._round), full
        return claims

    def _serve(
        self, tx: Tx, names: list[str], room: int, now: datetime, by: int
    ) -> Claimed[ClaimedDelivery]:
        """Claim from these lanes. Those that it does not get to come first in the next look."""
        lanes = self.lanes(tx, names, now)
        if deleted := set(names) - set(lanes):
            # The subscriber was deleted while a transaction that still saw it published an event.
            tx.execute(_KILL_LANES, {"lanes": list(deleted), "now": now})
        # A lane that is alone may use all its slots at once; among others, a share of them.
        share = max(queue.QUANTUM, room // len(names))
        lease = max((lane.lease for lane in lanes.values()), default=LEASE_MARGIN)
        rows = self._take(tx, lanes, share, room, now, lease, by)
        for row in rows:
            lanes[row["subscriber_id"]].given += 1
        cut = len(rows) == room
        if cut:
            last = max(at for at, name in enumerate(names) if name in lanes and lanes[name].given)
            self._round[:0] = names[last + 1 :]
        more = cut or any(lane.exhausted(share) for lane in lanes.values())
        full = any(lane.full for lane in lanes.values())
        claims, postponed = _claims(tx, rows, lanes, now)
        return Claimed(claims, more=more or postponed, full=full)

    def _take(
        self,
        tx: Tx,
        lanes: Mapping[str, Lane],
        share: int,
        room: int,
        now: datetime,
        lease: float,
        by: int,
    ) -> list[QueuedDelivery]:
        """Claim up to `room` deliveries; of lanes that rest only what an operator has forced."""
        forced = {name: lane.free for name, lane in lanes.items() if lane.resting and lane.free > 0}
        ordered = {name for name, lane in lanes.items() if lane.subscriber["ordered"]}
        rows = queue.take_deliveries(tx, forced, now, lease, room, by, forced=True, ordered=ordered)
        for lane in lanes.values():
            if not lane.resting:
                lane.quantum = self._within_rate(lane.subscriber, min(lane.free, share), now)
        quanta = {name: lane.quantum for name, lane in lanes.items() if lane.quantum > 0}
        room -= len(rows)
        return rows + queue.take_deliveries(tx, quanta, now, lease, room, by, ordered=ordered)

    def lanes(self, tx: Tx, names: Sequence[str], now: datetime) -> dict[str, Lane]:
        """Return the lanes of subscribers that exist, in the order of `names`."""
        found = {row["id"]: row for row in _SUBSCRIBERS.rows(tx, SubscriberRow, {"lanes": names})}
        return {
            name: Lane(
                row,
                self._policy.overridden(row["retry"]),
                row["max_in_flight"] - self._in_progress[name],
                _rests(row, now),
            )
            for name in names
            if (row := found.get(name)) is not None
        }

    def _within_rate(self, to: SubscriberRow, wanted: int, now: datetime) -> int:
        """Take up to `wanted` tokens from the subscriber's bucket; return how many."""
        rate = to["rate_limit"]
        if rate is None or wanted <= 0:
            return wanted
        if len(self._buckets) >= _MAX_BUCKETS:
            # A full bucket is the same as none.
            refilled = {lane: bucket.refilled(now) for lane, bucket in self._buckets.items()}
            self._buckets = {
                lane: one for lane, one in refilled.items() if one.tokens < one.capacity
            }
        bucket = self._buckets.get(to["id"], TokenBucket(rate, 1.0, now))
        bucket = replace(bucket, rate=rate).refilled(now)
        taken = min(wanted, int(bucket.tokens))
        self._buckets[to["id"]] = bucket.less(taken)
        return taken


def release(tx: Tx, held: Sequence[tuple[str, int]], now: datetime) -> None:
    """Make claimed deliveries (id, lease) due again, unless another claim has them."""
    for delivery_id, lease in held:
        mine = sa.and_(
            delivery.c.id == delivery_id, delivery.c.lease == lease, delivery.c.due_at.is_not(None)
        )
        tx.execute(sa.update(delivery).where(mine).values(due_at=now))


def _rests(row: SubscriberRow, now: datetime) -> bool:
    """True if a subscriber rests. The lane of a host never does: its addresses do."""
    until = row["resting_until"] if row["callback_origin"] is None else None
    return until is not None and until > now


def _claims(
    tx: Tx, rows: Sequence[QueuedDelivery], lanes: Mapping[str, Lane], now: datetime
) -> tuple[list[ClaimedDelivery], bool]:
    """Return claims, and whether deliveries were postponed since their address rests."""
    if not rows:
        return [], False
    ids = {"ids": list({row["event_id"] for row in rows})}
    events = {found["id"]: found for found in _EVENTS.rows(tx, QueuedEvent, ids)}
    if orphans := [row["id"] for row in rows if row["event_id"] not in events]:
        # Retention deleted the event while it was being replayed: there is nothing left to send.
        tx.execute(_DELETE, {"ids": orphans})
    claims = [
        lanes[row["subscriber_id"]].claim(row, events[row["event_id"]])
        for row in rows
        if row["event_id"] in events
    ]
    resting = [claim for claim in claims if claim.rests(now)]
    if resting:
        _postpone(tx, resting, now)
    return [claim for claim in claims if not claim.rests(now)], bool(resting)


def _postpone(tx: Tx, claims: Sequence[ClaimedDelivery], now: datetime) -> None:
    """Make deliveries due when their addresses have rested, and with them others of their lanes.

    What waits for any resting address of a host would be claimed in vain, a few per look.
    """
    _POSTPONE(
        tx, [{"was_id": one.row["id"], "due_at": one.event["resting_until"]} for one in claims]
    )
    for lane in sorted({claim.row["subscriber_id"] for claim in claims}):
        tx.execute(_POSTPONE_LANE, {"lane": lane, "now": now})


# Built once: building a statement costs more than running it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_LANES: sa.BindParameter[Any] = sa.bindparam("lanes", expanding=True)
_NOW = sa.bindparam("now", type_=delivery.c.due_at.type)
_KILL_LANES = (
    sa.update(delivery)
    .where(delivery.c.subscriber_id.in_(_LANES), delivery.c.due_at <= _NOW)
    .values(state=DeliveryState.DEAD, due_at=None, done_at=_NOW, last_error=DELETED)
)
_DELETE = sa.delete(delivery).where(delivery.c.id.in_(_IDS))
_SUBSCRIBERS = Statement(sa.select(subscriber).where(subscriber.c.id.in_(_LANES)))
_EVENTS = Statement(
    sa.select(
        event.c.id,
        event.c.job_id,
        event.c.type,
        event.c.body,
        job.c.callback_url,
        job.c.callback_key,
        callback_address.c.resting_until,
    )
    .select_from(
        event.outerjoin(job, job.c.id == event.c.job_id).outerjoin(
            callback_address, callback_address.c.key == job.c.callback_key
        )
    )
    .where(event.c.id.in_(_IDS))
)
_POSTPONE = bulk_update(delivery, "due_at", key=("id",))
#: The limit comes before the filter: it bounds the rows that are read, however few of them wait.
#: A CTE, since PostgreSQL may run a locking subquery of a join more than once.
_FIRST_DUE = (
    sa.select(delivery.c.id, delivery.c.event_id, delivery.c.forced_at)
    .where(delivery.c.subscriber_id == sa.bindparam("lane"), delivery.c.due_at <= _NOW)
    .order_by(delivery.c.due_at)
    .limit(500)
    .with_for_update(skip_locked=True)
    .cte("first_due")
)
#: Correlated, so that each of the 500 rows reads its own event, job and address: a join of tables
#: whose statistics are out of date may be planned as the product of all three.
_REST = (
    sa.select(callback_address.c.resting_until)
    .select_from(
        event.join(job, job.c.id == event.c.job_id).join(
            callback_address, callback_address.c.key == job.c.callback_key
        )
    )
    .where(event.c.id == _FIRST_DUE.c.event_id, callback_address.c.resting_until > _NOW)
    .correlate(_FIRST_DUE)
    .scalar_subquery()
)
_RESTING = (
    sa.select(_FIRST_DUE.c.id, _REST.label("until"))
    .where(_FIRST_DUE.c.forced_at.is_(None))
    .cte("resting")
)
_POSTPONE_LANE = (
    sa.update(delivery)
    .where(delivery.c.id == _RESTING.c.id, _RESTING.c.until.is_not(None))
    .values(due_at=_RESTING.c.until)
)
