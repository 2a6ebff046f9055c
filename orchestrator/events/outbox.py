"""The transactional outbox: events and their deliveries, written in the transaction of the change.

https://microservices.io/patterns/data/transactional-outbox.html
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, bulk_insert, one_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import (
    FINAL_EVENTS,
    DeliveryState,
    EventType,
    Source,
    SubscriberState,
)
from orchestrator.schemas.events import event_body


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


def publish(tx: Tx, ids: Ids, new: Sequence[NewEvent], now: datetime) -> list[str]:
    """Write the events, and one delivery per event and matching subscriber. Return the event ids.

    Call it in the transaction that makes the events true.
    """
    if not new:
        return []
    candidates = _candidates(tx, {item.type for item in new if item.only is None})
    events: list[dict[str, Any]] = []
    targets: list[tuple[str, str, str]] = []
    for item, new_id in zip(new, ids.many("evt", len(new)), strict=True):
        event_id = item.id or new_id
        body = event_body(item.type, now, event_id, item.sequence, dict(item.data), late=item.late)
        job_id = item.job["id"] if item.job else None
        events.append(
            {"id": event_id, "job_id": job_id, "sequence": item.sequence, "type": item.type,
             "source": item.source, "body": body, "created_at": now}
        )  # fmt: skip
        targets += [(event_id, to, state) for to, state in _recipients(item, candidates)]
    _EVENTS(tx, events)
    pairs = zip(ids.many("dlv", len(targets)), targets, strict=True)
    _DELIVERIES(tx, [_delivery(delivery_id, *target, now) for delivery_id, target in pairs])
    return [row["id"] for row in events]


_types = sa.type_coerce(subscriber.c.types, sa.Text)


def _candidates(tx: Tx, kinds: Collection[str]) -> Sequence[Any]:
    """Return (id, types, state) of the subscribers whose globs match one of these event types.

    Ten thousand subscribers have few different `types`: match these first, then select by them.
    """
    wanted = [
        types for (types,) in _DISTINCT_TYPES(tx) if any(matches(_globs(types), k) for k in kinds)
    ]
    return _BY_TYPES(tx, wanted)


@lru_cache(maxsize=4096)
def _globs(types: str) -> tuple[str, ...]:
    return tuple(json.loads(types))


def _distinct_types() -> sa.Select[tuple[str]]:
    """Return a loose index scan by `types`: it reads one index entry per distinct value.

    https://wiki.postgresql.org/wiki/Loose_indexscan
    """
    # It starts below all values: without a bound, SQLite uses the index of callback origins, and
    # sorts.
    scan = sa.select(sa.literal_column("''", sa.Text).label("types")).cte("scan", recursive=True)
    after = sa.select(_types).where(subscriber.c.callback_origin.is_(None), _types > scan.c.types)
    following = after.order_by(_types).limit(1).scalar_subquery()
    scan = scan.union_all(sa.select(following).where(scan.c.types.is_not(None)))
    return sa.select(scan.c.types).where(scan.c.types > sa.literal_column("''"))


# Built once: constructing a statement costs more than executing it.
_DISTINCT_TYPES = BulkSelect(_distinct_types())
_BY_TYPES = BulkSelect(
    sa.select(subscriber.c.id, _types, subscriber.c.state).where(
        subscriber.c.callback_origin.is_(None), one_of(_types)
    )
)
_EVENTS = bulk_insert(event, "id", "job_id", "sequence", "type", "source", "body", "created_at")
_DELIVERIES = bulk_insert(
    delivery, "id", "event_id", "subscriber_id", "state", "due_at", "lease", "tries", "created_at"
)


def _recipients(new: NewEvent, candidates: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the id and the state of every subscriber that an event is delivered to."""
    if new.only is not None:
        return [(new.only, SubscriberState.ACTIVE)]
    found = [
        (to, state)
        for to, types, state in candidates
        if to != new.but and matches(_globs(types), new.type)
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
    }


@lru_cache(maxsize=65536)
def matches(globs: tuple[str, ...], kind: str) -> bool:
    """Return whether one of the globs (`job.*`) matches an event type."""
    return any(fnmatchcase(kind, glob) for glob in globs)
