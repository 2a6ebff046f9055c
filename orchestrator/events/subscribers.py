"""Subscribers: receivers of events. Every function that takes `tx` is a unit of work.

A paused or disabled subscriber loses nothing: its deliveries are held, and are sent when it is
active again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypedDict

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.delivery_order import end_order
from orchestrator.database.store import Tx
from orchestrator.database.tables import callback_address, delivery, event, subscriber
from orchestrator.database.tables.rows import SubscriberRow, fetch
from orchestrator.events.callback_lanes import IS_FAILING
from orchestrator.events.destinations import Destination
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.events.subscriber_secrets import address_columns, encrypted, has_origin
from orchestrator.foundation import addresses
from orchestrator.foundation.clock import after as later
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.errors import Conflict
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

#: The number of the advisory lock under which subscribers are counted.
_LIMITS_LOCK = int.from_bytes(b"sublimit", "big")
#: The other rows are the lanes of callback URLs.
_IS_SUBSCRIPTION = subscriber.c.callback_origin.is_(None)
#: Columns that are for the origin of the address alone.
_OF_ORIGIN: Final = ("headers", "credentials")
_UNFINISHED = (DeliveryState.PENDING, DeliveryState.HELD)


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
    credentials: Mapping[str, str] = MappingProxyType({}),
    api_key: str | None = None,
    filter: dict[str, Any] | None = None,
    ordered: bool = False,
    retry: dict[str, Any] | None = None,
) -> tuple[SubscriberRow, str | None]:
    """Return a row for `add`, and its signing secret if deliveries of this kind are signed."""
    secret = new_secret() if destination.signed else None
    row: SubscriberRow = {
        "id": ids("sub"),
        "kind": destination.kind,
        "api_key": api_key,
        "callback_origin": None,
        **address_columns(keys, destination, url),
        "secrets": [{"key": keys.encrypt(secret), "until": None}] if secret else [],
        "types": types,
        "description": description,
        "headers": encrypted(keys, headers),
        "options": dict(options),
        "credentials": encrypted(keys, credentials),
        "filter": filter,
        "ordered": ordered or None,
        "retry": retry,
        "rate_limit": rate_limit,
        "max_in_flight": max_in_flight,
        **_HEALTHY,
        "created_at": now,
    }
    return row, secret


class HealthColumns(TypedDict):
    """The columns that say how a subscriber is."""

    state: str
    reason: str | None
    resting_until: datetime | None
    failing_since: datetime | None
    failures: int | None


_HEALTHY: HealthColumns = {
    "state": SubscriberState.ACTIVE,
    "reason": None,
    "resting_until": None,
    "failing_since": None,
    "failures": None,
}


class Limits(NamedTuple):
    """How many subscribers one API key may create, and how many may have the same address."""

    per_key: int
    per_address: int


def add(tx: Tx, row: SubscriberRow) -> None:
    """Insert a subscriber. Rerun, it leaves the row that is there."""
    statement = insert(tx.dialect.name, subscriber).on_conflict_do_nothing(index_elements=["id"])
    tx.execute(statement, [row])


def add_within(tx: Tx, row: SubscriberRow, limits: Limits, address_keys: Sequence[str]) -> None:
    """Insert a subscriber. `address_keys` are all keyed hashes of its address.

    Raises `Conflict` beyond a limit.
    """
    _lock(tx)
    if get(tx, row["id"]) is None:
        if _count(tx, subscriber.c.api_key == row["api_key"]) >= limits.per_key:
            raise _too_many(f"this API key has created {limits.per_key} subscribers")
        _check_address_limit(tx, row["id"], limits, address_keys)
    add(tx, row)


def _check_address_limit(
    tx: Tx, subscriber_id: str, limits: Limits, address_keys: Sequence[str]
) -> None:
    same = sa.and_(subscriber.c.address_key.in_(address_keys), subscriber.c.id != subscriber_id)
    if _count(tx, same) >= limits.per_address:
        raise _too_many(f"{limits.per_address} subscribers have this address")


def _count(tx: Tx, which: sa.ColumnElement[bool]) -> int:
    counted = sa.select(sa.func.count()).select_from(subscriber).where(which, _IS_SUBSCRIPTION)
    return int(tx.execute(counted).scalar_one())


def _too_many(what: str) -> Conflict:
    return Conflict(f"{what} already; change or delete one of them", code="limit_reached")


def _lock(tx: Tx) -> None:
    """Make the writers of PostgreSQL count one after the other. SQLite has one writer."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_LIMITS_LOCK)))


def listing(
    tx: Tx, *, limit: int, after: str | None = None, callbacks: bool = False, failing: bool = False
) -> list[SubscriberRow]:
    """Return up to `limit` subscribers, newest first, below the id `after` (keyset pagination).

    `callbacks` selects the hosts of callback URLs instead, `failing` those that fail now.
    """
    which = sa.not_(_IS_SUBSCRIPTION) if callbacks else _IS_SUBSCRIPTION
    query = sa.select(subscriber).where(which).order_by(subscriber.c.id.desc())
    if after is not None:
        query = query.where(subscriber.c.id < after)
    if failing:
        lanes = sa.select(callback_address.c.lane).where(IS_FAILING)
        bad = subscriber.c.id.in_(lanes) if callbacks else subscriber.c.failing_since.is_not(None)
        query = query.where(bad)
    return fetch(tx, SubscriberRow, query.limit(limit))


def find(tx: Tx, subscriber_id: str) -> SubscriberRow | None:
    """Return a subscriber, or the host of callback URLs with this id, or None."""
    found = fetch(tx, SubscriberRow, sa.select(subscriber).where(subscriber.c.id == subscriber_id))
    return found[0] if found else None


def get(tx: Tx, subscriber_id: str, *, for_update: bool = False) -> SubscriberRow | None:
    """Return a subscriber, or None. `for_update` locks it until the transaction ends."""
    query = sa.select(subscriber).where(subscriber.c.id == subscriber_id, _IS_SUBSCRIPTION)
    rows = fetch(tx, SubscriberRow, query.with_for_update() if for_update else query)
    return rows[0] if rows else None


def change(
    tx: Tx, subscriber_id: str, values: Mapping[str, Any], address: str | None = None
) -> SubscriberRow | None:
    """Set columns of a subscriber and return it, or None.

    `address` is the stored one for which headers or credentials were given. Raises `Conflict` if
    the subscriber has another by now: it may not get them.
    """
    row = get(tx, subscriber_id, for_update=True) if address is not None else None
    if row is not None and row["address"] != address:
        raise Conflict("its address was changed meanwhile; read the subscriber and try again")
    if values.get("ordered", True) is not True:
        end_order(tx, subscriber_id)
    if values:
        changed = sa.update(subscriber).where(subscriber.c.id == subscriber_id, _IS_SUBSCRIPTION)
        tx.execute(changed.values(**values))
    return get(tx, subscriber_id)


def move(
    tx: Tx,
    keys: Keys,
    subscriber_id: str,
    destination: Destination,
    url: str,
    values: Mapping[str, Any],
    limits: Limits,
) -> tuple[SubscriberRow, list[str]] | None:
    """Set the address of a subscriber, and other columns. Return it, and the fields it lost.

    Headers and credentials were given for an origin: another one does not get them, unless `values`
    has new ones. None: there is no such subscriber. Raises `Conflict` beyond a
    limit.
    """
    _lock(tx)
    row = get(tx, subscriber_id, for_update=True)
    if row is None:
        return None
    _check_address_limit(tx, subscriber_id, limits, keys.hashes(addresses.canonical(url)))
    values = {**values, **address_columns(keys, destination, url)}
    lost = []
    if not has_origin(keys, row, url):
        lost = [name for name in _OF_ORIGIN if row[name] and name not in values]
        values |= dict.fromkeys(lost)
    changed = change(tx, subscriber_id, values)
    return None if changed is None else (changed, lost)


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
    announce(tx, ids, subscriber_id, EventType.SUBSCRIBER_DISABLED, now)


def announce(tx: Tx, ids: Ids, subscriber_id: str, kind: EventType, now: datetime) -> None:
    """Publish an event about a subscriber to the others. None if it does not exist."""
    if (row := get(tx, subscriber_id)) is not None:
        event_of_it = NewEvent(kind, Source.CLOCK, subscriber_json(row), but=subscriber_id)
        publish(tx, ids, [event_of_it], now)


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
