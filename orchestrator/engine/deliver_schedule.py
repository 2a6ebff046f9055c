"""Whose turn it is: due deliveries, lane by lane, each within its places and its rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database import queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, job, subscriber
from orchestrator.engine.worker import Claimed
from orchestrator.foundation import token_bucket
from orchestrator.foundation.clock import Clock, Rng
from orchestrator.foundation.states import DELETED, DeliveryState

Row = Mapping[Any, Any]

#: Lanes that are looked at at once.
_GLANCE = 256
#: Lanes whose rates are kept although they have their second's worth again.
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A claimed delivery with all it takes to attempt it."""

    row: Row
    event: Row
    to: Row


class DeliveryScheduler:
    """One process's. It alone knows how many attempts each lane has under way here."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._under_way: Counter[str] = Counter()
        #: Of all lanes together.
        self.under_way = 0
        self._rates: dict[str, token_bucket.TokenBucket] = {}
        #: Lanes that had something due when they were last looked for, and have not had their turn since.
        self._round: list[str] = []

    def begin(self, dues: Iterable[ClaimedDelivery]) -> None:
        """Give attempts their places."""
        lanes = [due.to["id"] for due in dues]
        self._under_way.update(lanes)
        self.under_way += len(lanes)

    def end(self, due: ClaimedDelivery) -> None:
        """Free an attempt's place. A lane without any is forgotten: lanes come and go."""
        self.under_way -= 1
        self._under_way[due.to["id"]] -= 1
        if not self._under_way[due.to["id"]]:
            del self._under_way[due.to["id"]]

    def take(self, tx: Tx, room: int, lease: float) -> Claimed[ClaimedDelivery]:
        """Claim up to `room` deliveries for `lease` seconds: first of lanes whose turn is still to come.

        `full` says that a lane may have had more than it has places for.
        """
        now = self._clock.now()
        if dues := self._serve_round(tx, room, now, lease):
            # Nothing is known of the lanes that had their turn before.
            dues.more = True
            return dues
        self._round = queue.lanes(tx, delivery.c.subscriber_id, now)
        self._rng.shuffle(self._round)
        return self._serve_round(tx, room, now, lease)

    def _serve_round(
        self, tx: Tx, room: int, now: datetime, lease: float
    ) -> Claimed[ClaimedDelivery]:
        """Claim from the first lanes of the round that have something to give."""
        dues: Claimed[ClaimedDelivery] = Claimed()
        more = full = False
        while self._round and not dues:
            lanes, self._round = self._round[:_GLANCE], self._round[_GLANCE:]
            dues = self._serve(tx, lanes, room, now, lease)
            more, full = more or dues.more, full or dues.full
        dues.more, dues.full = more or bool(self._round), full
        return dues

    def _serve(
        self, tx: Tx, lanes: list[str], room: int, now: datetime, lease: float
    ) -> Claimed[ClaimedDelivery]:
        """Claim from these lanes; those it does not get to are looked at again first."""
        found = tx.execute(_PEOPLE, {"lanes": lanes}).mappings().all()
        if gone := set(lanes) - {row["id"] for row in found}:
            # It was deleted while somebody, who still saw it, owed it something.
            tx.execute(_NOBODYS, {"lanes": list(gone), "now": now})
        people = {
            row["id"]: row
            for row in found
            if row["resting_until"] is None or row["resting_until"] <= now
        }
        free = {
            lane: people[lane]["max_in_flight"] - self._under_way[lane]
            for lane in lanes
            if lane in people
        }
        # Alone, a lane may take all its places at once; among others, a few at a time.
        share = max(queue.QUANTUM, room // len(lanes))
        quanta = {
            lane: self._quantum(people[lane], min(places, share), now)
            for lane, places in free.items()
        }
        rows = queue.take_deliveries(
            tx, {lane: n for lane, n in quanta.items() if n > 0}, now, lease, room
        )
        got = Counter(row["subscriber_id"] for row in rows)
        if len(rows) == room:
            self._round[:0] = lanes[1 + max(lanes.index(lane) for lane in got) :]
        more = len(rows) == room or any(
            got[lane] == share < places for lane, places in free.items()
        )
        full = any(places <= 0 or 0 < quanta[lane] == got[lane] for lane, places in free.items())
        return Claimed(_dues(tx, rows, people), more=more, full=full)

    def _quantum(self, person: Row, wanted: int, now: datetime) -> int:
        if person["rate_limit"] is None or wanted <= 0:
            return wanted
        rate = person["rate_limit"]
        if len(self._rates) >= _REMEMBERED:
            # A full one says no more than none: subscribers come and go.
            now_held = {lane: one.refilled(now) for lane, one in self._rates.items()}
            self._rates = {lane: one for lane, one in now_held.items() if one.tokens < one.most}
        held = replace(
            self._rates.get(person["id"], token_bucket.TokenBucket(rate, 1.0, now)), rate=rate
        ).refilled(now)
        taken = min(wanted, int(held.tokens))
        self._rates[person["id"]] = held.less(taken)
        return taken


def _dues(tx: Tx, rows: Sequence[Row], people: Mapping[str, Row]) -> list[ClaimedDelivery]:
    if not rows:
        return []
    wanted = {"ids": list({row["event_id"] for row in rows})}
    events = {found["id"]: found for found in tx.execute(_EVENTS, wanted).mappings().all()}
    if lost := [row["id"] for row in rows if row["event_id"] not in events]:
        # Retention took the event while it was owed once more: there is nothing to tell, nor a job that this is about.
        tx.execute(_LOST, {"ids": lost})
    return [
        ClaimedDelivery(row, events[row["event_id"]], people[row["subscriber_id"]])
        for row in rows
        if row["event_id"] in events
    ]


# Built once: putting a statement together costs more than running it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_LANES: sa.BindParameter[Any] = sa.bindparam("lanes", expanding=True)
_NOW = sa.bindparam("now", type_=delivery.c.due_at.type)
_NOBODYS = (
    sa.update(delivery)
    .where(delivery.c.subscriber_id.in_(_LANES), delivery.c.due_at <= _NOW)
    .values(state=DeliveryState.DEAD, due_at=None, done_at=_NOW, last_error=DELETED)
)
_LOST = sa.delete(delivery).where(delivery.c.id.in_(_IDS))
_PEOPLE = sa.select(subscriber).where(subscriber.c.id.in_(_LANES))
_EVENTS = (
    sa.select(event.c.id, event.c.type, event.c.body, job.c.callback_url)
    .select_from(event.outerjoin(job, job.c.id == event.c.job_id))
    .where(event.c.id.in_(_IDS))
)
