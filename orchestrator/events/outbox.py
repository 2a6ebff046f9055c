"""The transactional outbox: events and their deliveries, written in the transaction of the change.

https://microservices.io/patterns/data/transactional-outbox.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from orchestrator.database.bulk import bulk_insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event
from orchestrator.events.subscriptions import Subscriptions, current, matches, opened
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import (
    FINAL_EVENTS,
    DeliveryState,
    EventType,
    Source,
    SubscriberState,
)
from orchestrator.schemas.base import Json
from orchestrator.schemas.events import event_fields


class EventJob(TypedDict):
    """The columns of `job` that decide about the delivery to its callback URL. A row has them."""

    id: str
    callback_lane: str | None
    callback_events: list[str] | None


class NewEvent(NamedTuple):
    """An event to publish. `data` is what subscribers see; `job` is set if it is about a job.

    `only` names the one subscriber it is for, `but` a subscriber that it is not for. `id` is set
    where the caller chose it beforehand.
    """

    type: EventType
    source: Source
    data: Mapping[str, Any]
    sequence: int = 1
    job: EventJob | None = None
    late: bool = False
    only: str | None = None
    but: str | None = None
    id: str | None = None


#: Claims rows of deliveries before they are written, given those of their events.
Claim = Callable[[Tx, Sequence[dict[str, Any]], Sequence[Mapping[str, Any]], datetime], None]


def publish(
    tx: Tx,
    ids: Ids,
    new: Sequence[NewEvent],
    now: datetime,
    asked: Callable[[], Subscriptions] | None = None,
    claim: Claim | None = None,
) -> bool:
    """Write the events, and one delivery per event and matching subscriber.

    Return whether deliveries are due that are not claimed. Call it in the transaction that makes
    the events true. `asked` returns the subscriptions, if this transaction has asked for them.
    `claim` may claim the deliveries.
    """
    if not new:
        return False
    subscriptions = asked() if asked else current(tx)
    events: list[dict[str, Any]] = []
    targets: list[tuple[str, str, str]] = []
    for item, new_id in zip(new, ids.many("evt", len(new)), strict=True):
        event_id = item.id or new_id
        body = event_fields(
            item.type, now, event_id, item.sequence, dict(item.data), late=item.late
        )
        job_id = item.job["id"] if item.job else None
        events.append(
            {"id": event_id, "job_id": job_id, "sequence": item.sequence, "type": item.type,
             "source": item.source, "body": encode(body), "created_at": now}
        )  # fmt: skip
        targets += [(event_id, to, state) for to, state in _recipients(item, body, subscriptions)]
    pairs = zip(ids.many("dlv", len(targets)), targets, strict=True)
    deliveries = [_delivery(delivery_id, *target, now) for delivery_id, target in pairs]
    if claim and deliveries:
        claim(tx, deliveries, events, now)
    _EVENTS(tx, events)
    _DELIVERIES(tx, deliveries)
    return any(row["due_at"] is not None and row["claimed_by"] is None for row in deliveries)


# Built once: constructing a statement costs more than executing it.
_EVENTS = bulk_insert(event, "id", "job_id", "sequence", "type", "source", "body", "created_at")
_DELIVERIES = bulk_insert(
    delivery, "id", "event_id", "subscriber_id", "state", "due_at", "lease", "claimed_by", "tries",
    "created_at",
)  # fmt: skip


def _recipients(new: NewEvent, body: Json, subscriptions: Subscriptions) -> list[tuple[str, str]]:
    """Return the id and the state of every subscriber that an event is delivered to."""
    if new.only is not None:
        return [(new.only, SubscriberState.ACTIVE)]
    seen = opened(body, subscriptions.names) if subscriptions.has_filters else None
    found: list[tuple[str, str]] = [
        one for one in subscriptions.recipients(new.type, seen) if one.id != new.but
    ]
    lane = new.job["callback_lane"] if new.job else None
    if new.job and lane and matches(tuple(new.job["callback_events"] or FINAL_EVENTS), new.type):
        found.append((lane, SubscriberState.ACTIVE))
    return found


def _delivery(
    delivery_id: str, event_id: str, to: str, state: str, now: datetime
) -> dict[str, Any]:
    is_active = state == SubscriberState.ACTIVE
    return {
        "id": delivery_id,
        "event_id": event_id,
        "subscriber_id": to,
        "state": DeliveryState.PENDING if is_active else DeliveryState.HELD,
        "due_at": now if is_active else None,
        "lease": 0,
        "tries": 0,
        "created_at": now,
        "claimed_by": None,
    }
