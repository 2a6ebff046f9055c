"""What a replay is about: deliveries to make due again, or missed events to deliver at last.

Both are counted when the replay is made, and then read in chunks in the order of ids (keyset
pagination). The selection is what it was at that time: nothing newer than `newest`, and of ended
deliveries only those that had ended by then. Every statement but the count reads a bounded number
of rows: an index leads from id to id, and the other conditions are checked row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables.rows import ReplayRow
from orchestrator.events.outbox import matches
from orchestrator.foundation.clock import EPOCH, after
from orchestrator.foundation.ids import Ids, earliest
from orchestrator.foundation.states import DeliveryState, EventType, SubscriberState

#: Seconds by which the time in an id may differ from its row's `created_at`: clocks are adjusted.
_DRIFT = 3600.0


class Candidate(NamedTuple):
    """A delivery or an event.

    `fits`: the replay is about it. `active`: its subscriber is active.
    """

    id: str
    fits: bool
    active: bool


class Selection(ABC):
    """The rows that a replay is about."""

    prefix: str
    id: sa.ColumnElement[str]

    def __init__(self, row: ReplayRow) -> None:
        self.row = row

    def bounds(self, tx: Tx) -> tuple[str, str]:
        """Return the id after which a new replay begins, and the last id that it may reach."""
        since, until = self.row["since"], self.row["until"]
        newest = tx.scalar(sa.select(sa.func.max(self.id))) or ""
        if until is not None:
            newest = min(newest, _first_id(self.prefix, until, _DRIFT))
        return "" if since is None else _first_id(self.prefix, since, -_DRIFT), newest

    @abstractmethod
    def count(self, tx: Tx) -> int:
        """Return how many rows the replay is about."""

    @abstractmethod
    def next_chunk(self, tx: Tx, most: int) -> list[Candidate]:
        """Return up to `most` candidates after the cursor; none at the end."""

    @abstractmethod
    def make_due(self, tx: Tx, ids: Ids, chosen: Sequence[Candidate], now: datetime) -> int:
        """Make the chosen rows due and return how many.

        Those of an inactive subscriber are held.
        """

    def _range(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on ids: after the cursor, up to the newest."""
        return [self.id > self.row["cursor"], self.id <= self.row["newest"]]

    def _created_in(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        since, until, at = self.row["since"], self.row["until"], table.c.created_at
        lower = [] if since is None else [at >= since]
        return lower if until is None else [*lower, at < until]

    def _types(self) -> list[EventType]:
        globs = self.row["types"]
        return [kind for kind in EventType if globs is None or matches(tuple(globs), kind)]


class Redelivery(Selection):
    """Deliveries in a state, to be made due again."""

    prefix = "dlv"
    id = delivery.c.id

    def count(self, tx: Tx) -> int:
        """Return how many deliveries the replay is about."""
        found = self._select(sa.func.count()).where(*self._span(), *self._fits())
        return tx.scalar(found) or 0

    def next_chunk(self, tx: Tx, most: int) -> list[Candidate]:
        """Return up to `most` deliveries after the cursor."""
        active = sa.func.coalesce(subscriber.c.state == SubscriberState.ACTIVE, sa.false())
        fits = sa.and_(subscriber.c.id.is_not(None), *self._fits())
        found = self._select(self.id, fits.label("fits"), active.label("active"), outer=True)
        found = found.where(*self._span()).order_by(self.id).limit(most)
        return [Candidate(*row) for row in tx.execute(found)]

    def make_due(self, tx: Tx, ids: Ids, chosen: Sequence[Candidate], now: datetime) -> int:
        """Make deliveries due again."""
        done = 0
        for active in (True, False):
            some = [one.id for one in chosen if one.active is active]
            mine = sa.and_(delivery.c.id.in_(some), *self._unchanged())
            values = _due_values(active, now) | {"done_at": None}
            if some:
                done += tx.execute(sa.update(delivery).where(mine).values(**values)).rowcount
        return done

    def _select(self, *columns: sa.ColumnElement[Any], outer: bool = False) -> sa.Select[Any]:
        """Select from deliveries with their subscribers, and their events if types matter."""
        found = delivery.join(
            subscriber, subscriber.c.id == delivery.c.subscriber_id, isouter=outer
        )
        if self.row["types"] is not None:
            found = found.join(event, event.c.id == delivery.c.event_id, isouter=outer)
        return sa.select(*columns).select_from(found)

    def _span(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that an index serves."""
        found = self._range()
        if self.row["event_id"] is not None:
            found.append(delivery.c.event_id == self.row["event_id"])
        if self.row["subscriber_id"] is not None:
            found.append(delivery.c.subscriber_id == self.row["subscriber_id"])
        if self.row["status"] == DeliveryState.DEAD:
            found.append(self._in_state())
        return found

    def _fits(self) -> list[sa.ColumnElement[bool]]:
        found = [*self._unchanged(), *self._created_in(delivery)]
        if self.row["types"] is not None:
            found.append(event.c.type.in_(self._types()))
        return found

    def _unchanged(self) -> list[sa.ColumnElement[bool]]:
        """Return what must still hold when a delivery is made due: its state, and since when."""
        ended = delivery.c.done_at
        return [self._in_state(), sa.or_(ended.is_(None), ended <= self.row["created_at"])]

    def _in_state(self) -> sa.ColumnElement[bool]:
        # A literal: for a parameter the planner cannot know that the partial index applies.
        state = DeliveryState(self.row["status"])
        return delivery.c.state == sa.literal_column(f"'{state}'")


class Backfill(Selection):
    """Events that a subscriber was never owed, to be delivered to it."""

    prefix = "evt"
    id = event.c.id

    def count(self, tx: Tx) -> int:
        """Return how many events the replay is about."""
        missed = sa.not_(self._owed().exists())
        found = sa.select(sa.func.count()).select_from(event)
        return tx.scalar(found.where(*self._span(), *self._wanted(tx), missed)) or 0

    def next_chunk(self, tx: Tx, most: int) -> list[Candidate]:
        """Return up to `most` events after the cursor."""
        # Not EXISTS: PostgreSQL would gather all that the subscriber was ever owed, for each chunk.
        missed = self._owed().limit(1).scalar_subquery().is_(None)
        fits = sa.and_(*self._wanted(tx), missed).label("fits")
        active = sa.literal(self._subscriber(tx)[1]).label("active")
        found = sa.select(self.id, fits, active).where(*self._span())
        return [Candidate(*row) for row in tx.execute(found.order_by(self.id).limit(most))]

    def make_due(self, tx: Tx, ids: Ids, chosen: Sequence[Candidate], now: datetime) -> int:
        """Create deliveries. An event that is owed by now keeps the delivery that it has."""
        common = {"subscriber_id": self.row["subscriber_id"], "lease": 0, "tries": 0}
        rows = [
            {
                "id": new,
                "event_id": one.id,
                "created_at": now,
                **common,
                **_due_values(one.active, now),
            }
            for new, one in zip(ids.many("dlv", len(chosen)), chosen, strict=True)
        ]
        if not rows:
            return 0
        missing = insert(tx.dialect.name, delivery).on_conflict_do_nothing()
        return len(tx.scalars(missing.returning(delivery.c.id), rows).all())

    def _span(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that an index serves."""
        one_event = self.row["event_id"]
        return self._range() + ([] if one_event is None else [event.c.id == one_event])

    def _wanted(self, tx: Tx) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on events that the subscriber wants.

        A test event goes to one only.
        """
        globs, _ = self._subscriber(tx)
        kinds = [kind for kind in self._types() if matches(globs, kind)]
        types = [kind for kind in kinds if kind is not EventType.TEST]
        return [event.c.type.in_(types), *self._created_in(event)]

    def _owed(self) -> sa.Select[int]:
        """Select the delivery of an event to the subscriber."""
        mine = delivery.c.subscriber_id == self.row["subscriber_id"]
        found = sa.select(sa.literal(1)).select_from(delivery)
        return found.where(delivery.c.event_id == event.c.id, mine).correlate(event)

    def _subscriber(self, tx: Tx) -> tuple[tuple[str, ...], bool]:
        """Return the globs of types that the subscriber wants, and whether it is active."""
        found = sa.select(subscriber.c.types, subscriber.c.state)
        row = tx.execute(found.where(subscriber.c.id == self.row["subscriber_id"])).first()
        return (tuple(row.types), row.state == SubscriberState.ACTIVE) if row else ((), False)


def selection_of(row: ReplayRow) -> Selection:
    """Return what a replay is about."""
    return Backfill(row) if row["missed"] else Redelivery(row)


def _due_values(active: bool, now: datetime) -> dict[str, Any]:
    if active:
        return {"state": DeliveryState.PENDING, "due_at": now}
    return {"state": DeliveryState.HELD, "due_at": None}


def _first_id(prefix: str, at: datetime, seconds: float) -> str:
    """Return the first id of an instant that many seconds later, not before 1970."""
    try:
        return earliest(prefix, max(EPOCH, after(at, seconds)))
    except OverflowError:
        # At the end of the calendar.
        return earliest(prefix, max(EPOCH, at))
