"""What a replay is about: deliveries to make due again, or missed events to deliver at last.

`replay_retries` has the jobs to retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.engine.replay_contract import Candidate, Chunk, Made, Sampled, Selection, Share
from orchestrator.engine.replay_filters import Filtered, judged
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.states import DeliveryState, EventType, SubscriberState
from orchestrator.jobs.intake import JobIntake


class Redelivery(Selection):
    """Deliveries in a state, to be made due again."""

    prefix = "dlv"
    id = delivery.c.id
    owner = delivery.c.subscriber_id

    def matching(self, tx: Tx, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Select columns of the deliveries that the replay is about."""
        return self._select(*columns).where(*self._span(), *self._fits())

    def next_chunk(self, tx: Tx, most: int) -> Chunk:
        """Return up to `most` deliveries after the cursor."""
        active = sa.func.coalesce(subscriber.c.state == SubscriberState.ACTIVE, sa.false())
        fits = sa.and_(subscriber.c.id.is_not(None), *self._fits())
        columns = self.id, fits.label("fits"), active.label("active")
        found = self._select(*columns, delivery.c.event_id, _FILTER, outer=True)
        found = found.where(*self._span()).order_by(self.id).limit(most + 1)
        rows = [Filtered(Candidate(*row[:3]), *row[3:]) for row in tx.execute(found)]
        return _chunk(judged(tx, rows), most)

    def make_due(
        self, tx: Tx, intake: JobIntake, chosen: Sequence[Candidate], now: datetime
    ) -> Made:
        """Make deliveries due again."""
        done = 0
        for active in (True, False):
            some = [one.id for one in chosen if one.active is active]
            mine = sa.and_(delivery.c.id.in_(some), *self._unchanged())
            values = _due_values(active, now) | {"done_at": None}
            if some:
                done += tx.execute(sa.update(delivery).where(mine).values(**values)).rowcount
        return Made(done)

    def sampled(self, tx: Tx, ids: Sequence[str]) -> list[Sampled]:
        """Return what a preview shows of deliveries."""
        about = sa.select(delivery, event.c.type, event.c.job_id)
        about = about.join(event, event.c.id == delivery.c.event_id)
        found = tx.execute(about.where(self.id.in_(ids)).order_by(self.id))
        return [
            Sampled("delivery", row.id, row.state, row.created_at, subscriber=row.subscriber_id,
                    type=row.type, job=row.job_id, error=row.last_error)
            for row in found
        ]  # fmt: skip

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

    def matching(self, tx: Tx, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Select columns of the events that the replay is about."""
        missed = sa.not_(self._owed().exists())
        found = sa.select(*columns).select_from(event)
        return found.where(*self._span(), *self._wanted(tx), missed)

    def shares(self, tx: Tx) -> list[Share]:
        """Return the one subscriber."""
        return [Share(str(self.row["subscriber_id"]), self.count(tx))]

    def next_chunk(self, tx: Tx, most: int) -> Chunk:
        """Return up to `most` events after the cursor."""
        # Not EXISTS: PostgreSQL would gather all that the subscriber was ever owed, for each chunk.
        missed = self._owed().limit(1).scalar_subquery().is_(None)
        fits = sa.and_(*self._wanted(tx), missed).label("fits")
        _, is_active, wanted = self._subscriber(tx)
        active = sa.literal(is_active).label("active")
        found = sa.select(self.id, fits, active).where(*self._span())
        found = found.order_by(self.id).limit(most + 1)
        rows = [Filtered(Candidate(*row), row[0], wanted) for row in tx.execute(found)]
        return _chunk(judged(tx, rows), most)

    def make_due(
        self, tx: Tx, intake: JobIntake, chosen: Sequence[Candidate], now: datetime
    ) -> Made:
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
            for new, one in zip(intake.ids.many("dlv", len(chosen)), chosen, strict=True)
        ]
        if not rows:
            return Made(0)
        missing = insert(tx.dialect.name, delivery).on_conflict_do_nothing()
        return Made(len(tx.scalars(missing.returning(delivery.c.id), rows).all()))

    def sampled(self, tx: Tx, ids: Sequence[str]) -> list[Sampled]:
        """Return what a preview shows of events."""
        shown = sa.select(self.id, event.c.created_at, event.c.type, event.c.job_id)
        to = self.row["subscriber_id"]
        return [
            Sampled("event", row.id, None, row.created_at, subscriber=to, type=row.type,
                    job=row.job_id)
            for row in tx.execute(shown.where(self.id.in_(ids)).order_by(self.id))
        ]  # fmt: skip

    def _span(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions that an index serves."""
        one_event = self.row["event_id"]
        return self._range() + ([] if one_event is None else [event.c.id == one_event])

    def _wanted(self, tx: Tx) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on events that the subscriber wants.

        A test event goes to one only.
        """
        globs, *_ = self._subscriber(tx)
        kinds = [kind for kind in self._types() if matches(globs, kind)]
        types = [kind for kind in kinds if kind is not EventType.TEST]
        return [event.c.type.in_(types), *self._created_in(event)]

    def _owed(self) -> sa.Select[int]:
        """Select the delivery of an event to the subscriber."""
        mine = delivery.c.subscriber_id == self.row["subscriber_id"]
        found = sa.select(sa.literal(1)).select_from(delivery)
        return found.where(delivery.c.event_id == event.c.id, mine).correlate(event)

    def _subscriber(self, tx: Tx) -> tuple[tuple[str, ...], bool, str | None]:
        """Return the globs of the subscriber's types, whether it is active, and its filter."""
        found = sa.select(subscriber.c.types, subscriber.c.state, _FILTER)
        row = tx.execute(found.where(subscriber.c.id == self.row["subscriber_id"])).first()
        if row is None:
            return (), False, None
        return tuple(row.types), row.state == SubscriberState.ACTIVE, row.filter


#: As text, by which it is compiled once.
_FILTER = sa.type_coerce(subscriber.c.filter, sa.Text).label("filter")


def _chunk(rows: list[Candidate], most: int) -> Chunk:
    """Return the first `most` rows; one more shows that they are not the last."""
    return Chunk(rows[:most], rows[most - 1].id if len(rows) > most else None)


def _due_values(active: bool, now: datetime) -> dict[str, Any]:
    if active:
        return {"state": DeliveryState.PENDING, "due_at": now}
    return {"state": DeliveryState.HELD, "due_at": None}
