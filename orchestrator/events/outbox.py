"""Events, and the deliveries they owe. Always inside the transaction that makes the fact true."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import sqlalchemy as sa

from orchestrator.database.bulk import Finder, among, insert, inserting
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


class NewEvent(NamedTuple):
    """Something that happened. `job` is the job as it now is, if it is about one; `data` is what subscribers see.

    `only` restricts it to one subscriber, `but` leaves one out. `id` is its event's, where that was chosen beforehand.
    """

    type: EventType
    source: Source
    data: Mapping[str, Any]
    sequence: int = 1
    job: Mapping[str, Any] | None = None
    late: bool = False
    only: str | None = None
    but: str | None = None
    id: str | None = None


def publish(tx: Tx, ids: Ids, facts: Sequence[NewEvent], now: datetime) -> list[str]:
    """Write one event for each fact and one delivery for each event and subscriber; return the events' ids."""
    if not facts:
        return []
    standing = _interested(tx, {fact.type for fact in facts if fact.only is None})
    events: list[dict[str, Any]] = []
    owed: list[tuple[str, str, str]] = []
    for fact, new_id in zip(facts, ids.many("evt", len(facts)), strict=True):
        event_id = fact.id or new_id
        body = event_body(fact.type, now, event_id, fact.sequence, dict(fact.data), late=fact.late)
        job_id = fact.job["id"] if fact.job else None
        events.append(
            {"id": event_id, "job_id": job_id, "sequence": fact.sequence, "type": fact.type, "source": fact.source,
             "body": body, "created_at": now}
        )  # fmt: skip
        owed += [(event_id, to, state) for to, state in _audience(fact, standing)]
    _EVENTS(tx, events)
    new = zip(ids.many("dlv", len(owed)), owed, strict=True)
    _DELIVERIES(tx, [_delivery(delivery_id, *debt, now) for delivery_id, debt in new])
    return [row["id"] for row in events]


_types = sa.type_coerce(subscriber.c.types, sa.Text)


def _interested(tx: Tx, kinds: Collection[str]) -> Sequence[Any]:
    """Return the standing subscribers that want one of these kinds: id, types and state.

    Ten thousand of them want few different things. So first what is wanted at all, then by whom.
    """
    wanted = [said for (said,) in _WISHES(tx) if any(matches(_globs(said), kind) for kind in kinds)]
    return _STANDING(tx, wanted)


@lru_cache(maxsize=4096)
def _globs(said: str) -> tuple[str, ...]:
    return tuple(json.loads(said))


def _each_wish() -> sa.Select[tuple[str]]:
    """Return a loose scan of the index by `types`: it touches one entry for each different value."""
    # Begun below all of them: without a bound SQLite takes the index of callback origins, and sorts.
    hop = sa.select(sa.literal_column("''", sa.Text).label("said")).cte("hop", recursive=True)
    onward = sa.select(_types).where(subscriber.c.callback_origin.is_(None), _types > hop.c.said)
    one = onward.order_by(_types).limit(1).scalar_subquery()
    hop = hop.union_all(sa.select(one).where(hop.c.said.is_not(None)))
    return sa.select(hop.c.said).where(hop.c.said > sa.literal_column("''"))


# Built once: putting a statement together costs more than running it.
_WISHES = Finder(_each_wish())
_STANDING = Finder(
    sa.select(subscriber.c.id, _types, subscriber.c.state).where(
        subscriber.c.callback_origin.is_(None), among(_types)
    )
)
_EVENTS = inserting(event, "id", "job_id", "sequence", "type", "source", "body", "created_at")
_DELIVERIES = inserting(
    delivery, "id", "event_id", "subscriber_id", "state", "due_at", "lease", "tries", "created_at"
)


def _audience(fact: NewEvent, standing: Sequence[Any]) -> list[tuple[str, str]]:
    """Return who is owed a fact, and in which state each of them is."""
    if fact.only is not None:
        return [(fact.only, SubscriberState.ACTIVE)]
    found = [
        (to, state)
        for to, types, state in standing
        if to != fact.but and matches(_globs(types), fact.type)
    ]
    if fact.job and fact.job["callback_lane"]:
        wanted = tuple(fact.job["callback_events"] or FINAL_EVENTS)
        if matches(wanted, fact.type):
            found.append((fact.job["callback_lane"], SubscriberState.ACTIVE))
    return found


def _delivery(
    delivery_id: str, event_id: str, to: str, state: str, now: datetime
) -> dict[str, Any]:
    flows = state == SubscriberState.ACTIVE
    return {
        "id": delivery_id,
        "event_id": event_id,
        "subscriber_id": to,
        "state": DeliveryState.PENDING if flows else DeliveryState.HELD,
        "due_at": now if flows else None,
        "lease": 0,
        "tries": 0,
        "created_at": now,
    }


@lru_cache(maxsize=65536)
def matches(globs: tuple[str, ...], kind: str) -> bool:
    """True if one of the globs (`job.*`) matches an event type."""
    return any(fnmatchcase(kind, glob) for glob in globs)


def callback_lane(tx: Tx, ids: Ids, url: str, hide: Any, now: datetime) -> str:
    """Return the lane of a caller's callback URL: one for each origin, so that a slow host delays only its own jobs."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    row = {
        "id": ids("sub"), "kind": "webhook", "callback_origin": origin, "address": hide(origin), "shown": origin,
        "secrets": [], "types": [], "description": "", "options": {}, "max_in_flight": 8,
        "state": SubscriberState.ACTIVE, "created_at": now,
    }  # fmt: skip
    tx.execute(insert(tx.dialect.name, subscriber).on_conflict_do_nothing(), [row])
    found: str = tx.execute(
        sa.select(subscriber.c.id).where(subscriber.c.callback_origin == origin)
    ).scalar_one()
    return found
