"""The request of a delivery as it is sent, with its secrets masked."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
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
_ANYWHERE = "https://subscriber.invalid/"
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
    destination, own = runtime.destinations[to["kind"]], _headers(runtime, to)
    message = _message(runtime, destination, about, at)
    keys = [_NO_SECRET] if destination.signed else []
    masked_names = {name.lower() for name in own}
    if isinstance(destination, Publisher):
        address = _address(runtime, to)
        if address is None:
            return None
        hidden = dict.fromkeys(destination.credentials, MASK)
        target = Target(address, keys, own, to["options"], hidden)
        return _published(destination.encode(target, message), masked_names, to["shown"])
    assert isinstance(destination, HttpDestination)
    built = destination.request(Target(_ANYWHERE, keys, own, to["options"]), message)
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


def _headers(runtime: Runtime, to: SubscriberRow) -> dict[str, str]:
    """Return the subscriber's own headers; none if no key can decrypt them."""
    try:
        stored = runtime.keys.decrypt(to["headers"]) if to["headers"] else "{}"
    except ConfigError:
        return {}
    found: dict[str, str] = json.loads(stored)
    return found


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
