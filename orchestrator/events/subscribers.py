"""Subscribers: who wants events, and whether they flow. Every function that takes `tx` is a unit of work.

A subscriber that is paused or disabled loses nothing: its deliveries are held, and flow when it is active again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
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

Row = Mapping[Any, Any]
Values = dict[str, Any]

_STANDING = subscriber.c.callback_origin.is_(None)
_OWED = (DeliveryState.PENDING, DeliveryState.HELD)


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
) -> tuple[Values, str | None]:
    """Return a row for `add`, and its signing secret if deliveries of this kind are signed."""
    secret = new_secret() if destination.signed else None
    row: Values = {
        "id": ids("sub"),
        "kind": destination.kind,
        "callback_origin": None,
        "secrets": [{"key": keys.hide(secret), "until": None}] if secret else [],
        "types": types,
        "description": description,
        "options": dict(options),
        "rate_limit": rate_limit,
        "max_in_flight": max_in_flight,
        "state": SubscriberState.ACTIVE,
        "reason": None,
        "resting_until": None,
        "failing_since": None,
        "created_at": now,
        **addressed(keys, destination, url),
        **headed(keys, headers),
    }
    return row, secret


def add(tx: Tx, row: Values) -> None:
    """Take a subscriber on. Run again, it finds its own row and leaves it."""
    tx.execute(
        insert(tx.dialect.name, subscriber).on_conflict_do_nothing(index_elements=["id"]), [row]
    )


def addressed(keys: Keys, destination: Destination, url: str) -> Values:
    """Return the columns of an address: encrypted, and as people may see it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return {
        "address": keys.hide(url),
        "shown": f"{parts.scheme}://{host}/…" if destination.secret_address else url,
    }


def headed(keys: Keys, headers: Mapping[str, str]) -> Values:
    """Return the column of extra headers, encrypted: one may hold the subscriber's own credentials."""
    return {"headers": keys.hide(json.dumps(dict(headers))) if headers else None}


def listing(tx: Tx, *, limit: int, after: str | None = None) -> list[Row]:
    """Return up to `limit` subscribers, newest first. The lanes of callback URLs are nobody's subscription."""
    query = sa.select(subscriber).where(_STANDING).order_by(subscriber.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(subscriber.c.id < after)
    return list(tx.execute(query).mappings())


def get(tx: Tx, subscriber_id: str, *, to_change: bool = False) -> Row | None:
    """Return a subscriber, or None. `to_change` keeps others from changing it until the transaction ends."""
    query = sa.select(subscriber).where(subscriber.c.id == subscriber_id, _STANDING)
    return tx.execute(query.with_for_update() if to_change else query).mappings().first()


def change(tx: Tx, subscriber_id: str, values: Values) -> Row | None:
    """Set columns of a subscriber and return it, or None."""
    if values:
        tx.execute(
            sa.update(subscriber)
            .where(subscriber.c.id == subscriber_id, _STANDING)
            .values(**values)
        )
    return get(tx, subscriber_id)


def remove(tx: Tx, subscriber_id: str, now: datetime) -> bool:
    """Forget a subscriber; what it was still owed is dead. False if there is none."""
    if get(tx, subscriber_id) is None:
        return False
    owed = sa.and_(delivery.c.subscriber_id == subscriber_id, delivery.c.state.in_(_OWED))
    end = {"state": DeliveryState.DEAD, "due_at": None, "last_error": DELETED, "done_at": now}
    tx.execute(sa.update(delivery).where(owed).values(**end))
    tx.execute(sa.delete(subscriber).where(subscriber.c.id == subscriber_id))
    return True


def hold(
    tx: Tx, subscriber_id: str, state: SubscriberState, reason: str | None, now: datetime
) -> Row | None:
    """Stop the flow: nothing is attempted until `flow`. An attempt under way keeps its claim and may still succeed."""
    pending = _deliveries(subscriber_id, DeliveryState.PENDING)
    tx.execute(sa.update(delivery).where(pending).values(state=DeliveryState.HELD, due_at=None))
    return change(tx, subscriber_id, {"state": state, "reason": reason})


def flow(tx: Tx, subscriber_id: str, now: datetime) -> Row | None:
    """Let events flow again, what was held first."""
    held = _deliveries(subscriber_id, DeliveryState.HELD)
    tx.execute(sa.update(delivery).where(held).values(state=DeliveryState.PENDING, due_at=now))
    fresh = {
        "state": SubscriberState.ACTIVE,
        "reason": None,
        "resting_until": None,
        "failing_since": None,
    }
    return change(tx, subscriber_id, fresh)


def _deliveries(subscriber_id: str, state: DeliveryState) -> sa.ColumnElement[bool]:
    return sa.and_(delivery.c.subscriber_id == subscriber_id, delivery.c.state == state)


def disable(tx: Tx, ids: Ids, subscriber_id: str, reason: str, now: datetime) -> None:
    """Switch a subscriber off and tell the others why. One that is off already, or gone, is no news."""
    before = get(tx, subscriber_id)
    row = hold(tx, subscriber_id, SubscriberState.DISABLED, reason, now)
    if row is None or before is None or before["state"] == SubscriberState.DISABLED:
        return
    fact = NewEvent(
        EventType.SUBSCRIBER_DISABLED, Source.CLOCK, subscriber_json(row), but=subscriber_id
    )
    publish(tx, ids, [fact], now)


def send_test(tx: Tx, ids: Ids, subscriber_id: str, event_id: str, now: datetime) -> bool:
    """Owe a subscriber, and nobody else, a test event of that id: one, however often this is run.

    False if there is no such subscriber.
    """
    row = get(tx, subscriber_id)
    if row is None:
        return False
    if tx.execute(sa.select(event.c.id).where(event.c.id == event_id)).first() is None:
        fact = NewEvent(
            EventType.TEST, Source.OPERATOR, subscriber_json(row), only=subscriber_id, id=event_id
        )
        publish(tx, ids, [fact], now)
    return True


def rotate(
    tx: Tx, subscriber_id: str, hidden: str, grace: float, now: datetime
) -> tuple[Row, datetime] | None:
    """Give a subscriber a new secret, `hidden`; the older ones go on signing for at most `grace` seconds more.

    Return its row, and when the previous one ends; None if there is no such subscriber, or it has no secret. Run
    again, it finds the new secret there and leaves it.
    """
    row = get(tx, subscriber_id, to_change=True)
    if row is None or not row["secrets"]:
        return None
    ends = later(now, grace)
    if any(one["key"] == hidden for one in row["secrets"]):
        return row, ends
    limit = epoch_ms(ends)
    older = [
        one | {"until": limit if one["until"] is None else min(one["until"], limit)}
        for one in row["secrets"]
    ]
    still = [one for one in older if one["until"] > epoch_ms(now)]
    changed = change(tx, subscriber_id, {"secrets": [{"key": hidden, "until": None}, *still]})
    return None if changed is None else (changed, ends)
