"""The request of a delivery as it is sent, with its secrets masked."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import httpx
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables.rows import EventRow, SubscriberRow, fetch
from orchestrator.engine.runtime import Runtime
from orchestrator.events.destinations import (
    Destination,
    HttpDestination,
    Message,
    Publication,
    Publisher,
    Target,
)
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.logs import masked
from orchestrator.foundation.masking import MASK, WEBHOOK_PREFIX
from orchestrator.schemas.base import Json
from orchestrator.schemas.deliveries import host_of

#: Characters of a body that are shown.
_CAP = 256 * 1024
#: In place of the address, of which only a part may be shown.
_ANYWHERE = f"https://subscriber.invalid/{MASK}"
#: Signs in place of the subscriber's secret; the signature is masked.
_NO_SECRET = WEBHOOK_PREFIX + base64.b64encode(bytes(32)).decode()


def parties(tx: Tx, delivery_id: str) -> tuple[EventRow, SubscriberRow] | None:
    """Return the event and the subscriber of a delivery; None if one of them is deleted."""
    mine = delivery.c.id == delivery_id
    events = fetch(
        tx, EventRow, sa.select(event).join(delivery, delivery.c.event_id == event.c.id).where(mine)
    )
    to = fetch(
        tx,
        SubscriberRow,
        sa.select(subscriber)
        .join(delivery, delivery.c.subscriber_id == subscriber.c.id)
        .where(mine),
    )
    return (events[0], to[0]) if events and to else None


def request_json(runtime: Runtime, about: EventRow, to: SubscriberRow, at: datetime) -> Json | None:
    """Return what an attempt at that time sends: masked address, headers and body."""
    destination = runtime.destinations.get(to["kind"])
    if destination is None:
        return None
    own = dict.fromkeys(_names(runtime, to["headers"]), MASK)
    message = _message(runtime, destination, about, at)
    keys = [_NO_SECRET] if destination.signed else []
    credentials = dict.fromkeys(_names(runtime, to["credentials"]), MASK)
    masked_names = {name.lower() for name in own}
    if isinstance(destination, Publisher):
        if (address := _address(runtime, to)) is None:
            return None
        target = Target(address, keys, own, to["options"], credentials)
        sent = destination.encode(target, message)
        if destination.secret_address:
            sent = replace(sent, to=MASK)
        return _published(sent, masked_names, to["shown"])
    assert isinstance(destination, HttpDestination)
    target = Target(_ANYWHERE, keys, own, to["options"], credentials)
    built = destination.request(target, message)
    built.headers["host"] = host_of(to["shown"]) or ""
    return _shown(built, masked_names) | {"url": to["shown"]}


def _message(runtime: Runtime, destination: Destination, about: EventRow, at: datetime) -> Message:
    page = f"{runtime.base}/dashboard/shared/{MASK}" if destination.links_jobs else None
    has_page = about["job_id"] is not None and runtime.share_links.enabled
    return Message(
        about["id"], about["type"], about["body"], at, about["job_id"], page if has_page else None
    )


def _address(runtime: Runtime, to: SubscriberRow) -> str | None:
    """Return the address, which names the topic; None if no key can decrypt it."""
    try:
        return runtime.keys.decrypt(to["address"])
    except ConfigError:
        return None


def _names(runtime: Runtime, sealed: str | None) -> list[str]:
    """Return the names of the subscriber's headers or credentials; none without their key."""
    try:
        stored = runtime.keys.decrypt(sealed) if sealed else "{}"
    except ConfigError:
        return []
    return list(json.loads(stored))


def _published(publication: Publication, own: set[str], shown: str) -> Json:
    return {
        "method": "PUBLISH",
        "url": shown,
        "to": publication.to,
        "key": publication.key,
        "headers": _masked(publication.headers, own),
        **_cut(publication.body),
    }


def _shown(request: httpx.Request, own: set[str]) -> Json:
    return {
        "method": request.method,
        "headers": _masked(request.headers, own),
        **_cut(request.content),
    }


def _masked(headers: Mapping[str, str], own: set[str]) -> dict[str, str]:
    return {
        name: MASK if name.lower() in own else str(masked(value, name))
        for name, value in headers.items()
    }


def _cut(content: bytes) -> Json:
    body = content.decode("utf-8", "replace")
    return {"body": body[:_CAP], "truncated": len(body) > _CAP}
