"""Subscribers: receivers of events. Every function that takes `tx` is a unit of work.

A paused or disabled subscriber loses nothing: its deliveries are held, and are sent when it is
active again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import urlsplit

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables.rows import SubscriberRow, fetch
from orchestrator.events.destinations import Destination
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.clock import after as later
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.signing.standard_webhooks import new_secret
from orchestrator.foundation.states import (
    DELETED,
    DeliveryState,
    EventType,
    Source,
    SubscriberState,
)
from orchestrator.schemas.subscribers import subscriber_json

#: The other rows are the lanes of callback URLs.
_IS_SUBSCRIPTION = subscriber.c.callback_origin.is_(None)
_UNFINISHED = (DeliveryState.PENDING, DeliveryState.HELD)


class AddressColumns(TypedDict):
    """The address, encrypted, and as it may be shown."""

    address: str
    shown: str


def new(
    ids: Ids,
    keys: Keys,
    *,
    destination: Destination,
    url: str,
    types: list[str],
    description: str,
    headers: Mapping[str, str],
    options: Mapping[str, str],
    rate_limit: float | None,
    max_in_flight: int,
    now: datetime,
) -> tuple[SubscriberRow, str | None]:
    """Return a row for `add`, and its signing secret if deliveries of this kind are signed."""
    secret = new_secret() if destination.signed else None
    row: SubscriberRow = {
        "id": ids("sub"),
        "kind": destination.kind,
        "callback_origin": None,
        **address_columns(keys, destination, url),
        "secrets": [{"key": keys.encrypt(secret), "until": None}] if secret else [],
        "types": types,
        "description": description,
        "headers": encrypted_headers(keys, headers),
        "options": dict(options),
        "rate_limit": rate_limit,
        "max_in_flight": max_in_flight,
        "state": SubscriberState.ACTIVE,
        "reason": None,
        "resting_until": None,
        "failing_since": None,
        "created_at": now,
    }
    return row, secret


def add(tx: Tx, row: SubscriberRow) -> None:
    """Insert a subscriber. Rerun, it leaves the row that is there."""
    statement = insert(tx.dialect.name, subscriber).on_conflict_do_nothing(index_elements=["id"])
    tx.execute(statement, [row])


def callback_lane(tx: Tx, ids: Ids, url: str, encrypt: Callable[[str], str], now: datetime) -> str:
    """Return the id of the lane of a caller's callback URL, and insert the lane if it is new.

    There is one lane per origin, so that a slow host delays only its own deliveries.
    """
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    row = {
        "id": ids("sub"), "kind": "webhook", "callback_origin": origin, "address": encrypt(origin),
        "shown": origin, "secrets": [], "types": [], "description": "", "options": {},
        "max_in_flight": 8, "state": SubscriberState.ACTIVE, "created_at": now,
    }  # fmt: skip
    tx.execute(insert(tx.dialect.name, subscriber).on_conflict_do_nothing(), [row])
    query = sa.select(subscriber.c.id).where(subscriber.c.callback_origin == origin)
    return str(tx.execute(query).scalar_one())


def address_columns(keys: Keys, destination: Destination, url: str) -> AddressColumns:
    """Return the columns of an address. Where it is secret, `shown` leaves out its path."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    shown = f"{parts.scheme}://{host}/…" if destination.secret_address else url
    return {"address": keys.encrypt(url), "shown": shown}


def encrypted_headers(keys: Keys, headers: Mapping[str, str]) -> str | None:
    """Return the extra headers encrypted: one may hold the subscriber's own credentials."""
    return keys.encrypt(json.dumps(dict(headers))) if headers else None


def listing(tx: Tx, *, limit: int, after: str | None = None) -> list[SubscriberRow]:
    """Return up to `limit` subscribers, newest first, below the id `after` (keyset pagination)."""
    query = sa.select(subscriber).where(_IS_SUBSCRIPTION).order_by(subscriber.c.id.desc())
    if after is not None:
        query = query.where(subscriber.c.id < after)
    return fetch(tx, SubscriberRow, query.limit(limit))


def get(tx: Tx, subscriber_id: str, *, for_update: bool = False) -> SubscriberRow | None:
    """Return a subscriber, or None. `for_update` locks it until the transaction ends."""
    query = sa.select(subscriber).where(subscriber.c.id == subscriber_id, _IS_SUBSCRIPTION)
    rows = fetch(tx, SubscriberRow, query.with_for_update() if for_update else query)
    return rows[0] if rows else None


def change(tx: Tx, subscriber_id: str, values: Mapping[str, Any]) -> SubscriberRow | None:
    """Set columns of a subscriber and return it, or None."""
    if values:
        changed = sa.update(subscriber).where(subscriber.c.id == subscriber_id, _IS_SUBSCRIPTION)
        tx.execute(changed.values(**values))
    return get(tx, subscriber_id)


def remove(tx: Tx, subscriber_id: str, now: datetime) -> bool:
    """Delete a subscriber; its unfinished deliveries are dead. Return False if there is none."""
    if get(tx, subscriber_id) is None:
        return False
    owed = sa.and_(delivery.c.subscriber_id == subscriber_id, delivery.c.state.in_(_UNFINISHED))
    end = {"state": DeliveryState.DEAD, "due_at": None, "last_error": DELETED, "done_at": now}
    tx.execute(sa.update(delivery).where(owed).values(**end))
    tx.execute(sa.delete(subscriber).where(subscriber.c.id == subscriber_id))
    return True


def hold(
    tx: Tx, subscriber_id: str, state: SubscriberState, reason: str | None
) -> SubscriberRow | None:
    """Pause or disable a subscriber: its deliveries are held until `resume`.

    An attempt in flight keeps its claim and may still succeed.
    """
    _move(tx, subscriber_id, DeliveryState.PENDING, DeliveryState.HELD, due_at=None)
    return change(tx, subscriber_id, {"state": state, "reason": reason})


def resume(tx: Tx, subscriber_id: str, now: datetime) -> SubscriberRow | None:
    """Activate a subscriber: its held deliveries are due now."""
    _move(tx, subscriber_id, DeliveryState.HELD, DeliveryState.PENDING, due_at=now)
    cleared = dict.fromkeys(("reason", "resting_until", "failing_since"))
    return change(tx, subscriber_id, {"state": SubscriberState.ACTIVE, **cleared})


def _move(
    tx: Tx, subscriber_id: str, before: DeliveryState, state: DeliveryState, due_at: datetime | None
) -> None:
    which = sa.and_(delivery.c.subscriber_id == subscriber_id, delivery.c.state == before)
    tx.execute(sa.update(delivery).where(which).values(state=state, due_at=due_at))


def disable(tx: Tx, ids: Ids, subscriber_id: str, reason: str, now: datetime) -> None:
    """Disable a subscriber and publish an event about it to the others.

    No event if it is disabled already, or does not exist.
    """
    before = get(tx, subscriber_id)
    row = hold(tx, subscriber_id, SubscriberState.DISABLED, reason)
    if row is None or before is None or before["state"] == SubscriberState.DISABLED:
        return
    kind, data = EventType.SUBSCRIBER_DISABLED, subscriber_json(row)
    publish(tx, ids, [NewEvent(kind, Source.CLOCK, data, but=subscriber_id)], now)


def send_test(tx: Tx, ids: Ids, subscriber_id: str, event_id: str, now: datetime) -> bool:
    """Publish a test event with this id, to this subscriber only. Rerun, it publishes nothing.

    Return False if there is no such subscriber.
    """
    row = get(tx, subscriber_id)
    if row is None:
        return False
    if tx.execute(sa.select(event.c.id).where(event.c.id == event_id)).first() is None:
        to, data = subscriber_id, subscriber_json(row)
        test = NewEvent(EventType.TEST, Source.OPERATOR, data, only=to, id=event_id)
        publish(tx, ids, [test], now)
    return True


def rotate(
    tx: Tx, subscriber_id: str, encrypted: str, grace: float, now: datetime
) -> tuple[SubscriberRow, datetime] | None:
    """Give a subscriber a new secret; older secrets sign too, for at most `grace` more seconds.

    Return its row and the end of the previous secret; None if there is no such subscriber, or it
    has no secret. Rerun, it finds the new secret and changes nothing.
    """
    row = get(tx, subscriber_id, for_update=True)
    if row is None or not row["secrets"]:
        return None
    ends = later(now, grace)
    if any(secret["key"] == encrypted for secret in row["secrets"]):
        return row, ends
    limit = epoch_ms(ends)
    older = [
        secret | {"until": limit if secret["until"] is None else min(secret["until"], limit)}
        for secret in row["secrets"]
    ]
    valid = [secret for secret in older if secret["until"] > epoch_ms(now)]
    changed = change(tx, subscriber_id, {"secrets": [{"key": encrypted, "until": None}, *valid]})
    return None if changed is None else (changed, ends)
