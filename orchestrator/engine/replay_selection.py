"""What a replay is about: counted at once, and gone through a slice at a time, in the order of ids.

That is what it was when the replay was asked for: nothing newer than `newest`, and of what has ended, what had by then.
What a statement looks at is bounded, except where it counts: an index leads from id to id, and the rest is looked at
row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.events.outbox import matches
from orchestrator.foundation.clock import EPOCH, after
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.states import DeliveryState, EventType, SubscriberState

Row = Mapping[Any, Any]

#: Seconds by which the time in an id may differ from when its row says it was made: clocks are set right.
_DRIFT = 3600.0


class Candidate(NamedTuple):
    """A delivery, or a missed event. `fits`: the replay is about it; `flows`: its subscriber is active."""

    id: str
    fits: bool
    flows: bool


def bounds(tx: Tx, row: Row) -> dict[str, str]:
    """Return the ids after which a new replay begins, and at which it ends."""
    prefix, column = ("evt", event.c.id) if row["missed"] else ("dlv", delivery.c.id)
    newest = tx.scalar(sa.select(sa.func.max(column))) or ""
    if row["until"] is not None:
        newest = min(newest, _near(prefix, row["until"], _DRIFT))
    return {
        "cursor": "" if row["since"] is None else _near(prefix, row["since"], -_DRIFT),
        "newest": newest,
    }


def _near(prefix: str, at: datetime, seconds: float) -> str:
    """Return the first id of an instant so many seconds later; of 1970, if that is later still."""
    try:
        return earliest(prefix, max(EPOCH, after(at, seconds)))
    except OverflowError:
        # At the end of the calendar.
        return earliest(prefix, max(EPOCH, at))


def count(tx: Tx, row: Row) -> int:
    """Return how much a replay is about."""
    if row["missed"]:
        never = sa.not_(_owed(row).exists())
        found = (
            sa.select(sa.func.count())
            .select_from(event)
            .where(*_span(row), *_wanted(tx, row), never)
        )
    else:
        found = _joined(row, sa.func.count()).where(*_span(row), *_again(row))
    return tx.scalar(found) or 0


def ahead(tx: Tx, row: Row, most: int) -> list[Candidate]:
    """Return what is looked at next, at most so much; none if the replay is at its end."""
    if row["missed"]:
        # Not EXISTS: PostgreSQL would first gather all that the subscriber was ever owed, slice by slice.
        never = _owed(row).limit(1).scalar_subquery().is_(None)
        fits = sa.and_(*_wanted(tx, row), never).label("fits")
        found = sa.select(event.c.id, fits, sa.literal(_is_active(tx, row)).label("flows")).where(
            *_span(row)
        )
        place = event.c.id
    else:
        flows = sa.func.coalesce(subscriber.c.state == SubscriberState.ACTIVE, sa.false()).label(
            "flows"
        )
        known = subscriber.c.id.is_not(None)
        fits = sa.and_(known, *_again(row)).label("fits")
        found = _joined(row, delivery.c.id, fits, flows, strictly=False).where(*_span(row))
        place = delivery.c.id
    return [Candidate(*one) for one in tx.execute(found.order_by(place).limit(most))]


def _span(row: Row) -> list[sa.ColumnElement[bool]]:
    """Return what an index finds: ids after the cursor, of one subscriber or event if it is about one."""
    table = event if row["missed"] else delivery
    found = [table.c.id > row["cursor"], table.c.id <= row["newest"]]
    if row["event_id"] is not None:
        found.append((event.c.id if row["missed"] else delivery.c.event_id) == row["event_id"])
    if row["missed"]:
        return found
    if row["subscriber_id"] is not None:
        found.append(delivery.c.subscriber_id == row["subscriber_id"])
    if row["status"] == DeliveryState.DEAD:
        found.append(_in_state(row))
    return found


def _in_state(row: Row) -> sa.ColumnElement[bool]:
    # Written into the statement: of a parameter a planner cannot know that an index holds it.
    return delivery.c.state == sa.literal_column(f"'{DeliveryState(row['status'])}'")


def _again(row: Row) -> list[sa.ColumnElement[bool]]:
    """Return what makes a delivery one that the replay is about."""
    found = [*standing(row), *_made(delivery, row)]
    if row["types"] is not None:
        found.append(event.c.type.in_(_kinds(row)))
    return found


def standing(row: Row) -> list[sa.ColumnElement[bool]]:
    """Return what has to hold of a delivery still when it is made due: its state, and since when it is in that."""
    return [
        _in_state(row),
        sa.or_(delivery.c.done_at.is_(None), delivery.c.done_at <= row["created_at"]),
    ]


def _joined(row: Row, *columns: sa.ColumnElement[Any], strictly: bool = True) -> sa.Select[Any]:
    """Return a SELECT of deliveries with their subscribers, and with their events if their types matter."""
    found = delivery.join(
        subscriber, subscriber.c.id == delivery.c.subscriber_id, isouter=not strictly
    )
    if row["types"] is not None:
        found = found.join(event, event.c.id == delivery.c.event_id, isouter=not strictly)
    return sa.select(*columns).select_from(found)


def _made(table: sa.Table, row: Row) -> list[sa.ColumnElement[bool]]:
    """Return what restricts rows to those that were made in the span of time."""
    since = [] if row["since"] is None else [table.c.created_at >= row["since"]]
    return since if row["until"] is None else [*since, table.c.created_at < row["until"]]


def _wanted(tx: Tx, row: Row) -> list[sa.ColumnElement[bool]]:
    """Return what makes an event one that the subscriber wants."""
    person = _person(tx, row)
    wants = () if person is None else tuple(person["types"])
    # A test is for one subscriber alone.
    kinds = [kind for kind in _kinds(row) if matches(wants, kind) and kind is not EventType.TEST]
    return [event.c.type.in_(kinds), *_made(event, row)]


def _owed(row: Row) -> sa.Select[int]:
    """Return what finds a delivery of an event to the subscriber."""
    mine = (delivery.c.event_id == event.c.id, delivery.c.subscriber_id == row["subscriber_id"])
    return sa.select(sa.literal(1)).select_from(delivery).where(*mine).correlate(event)


def _kinds(row: Row) -> Sequence[EventType]:
    return [
        kind for kind in EventType if row["types"] is None or matches(tuple(row["types"]), kind)
    ]


def _person(tx: Tx, row: Row) -> Row | None:
    wanted = sa.select(subscriber.c.types, subscriber.c.state).where(
        subscriber.c.id == row["subscriber_id"]
    )
    return tx.execute(wanted).mappings().first()


def _is_active(tx: Tx, row: Row) -> bool:
    person = _person(tx, row)
    return person is not None and person["state"] == SubscriberState.ACTIVE
