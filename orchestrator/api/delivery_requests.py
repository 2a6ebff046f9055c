"""The request of a delivery as it is sent, with its secrets masked."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import httpx
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables.rows import EventRow, SubscriberRow, fetch
from orchestrator.engine.runtime import Runtime
from orchestrator.events.destinations import HttpDestination, Message, Target
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
    """Return the request of an attempt at that time: masked address, headers and body."""
    destination, own = runtime.destinations[to["kind"]], _headers(runtime, to)
    if not isinstance(destination, HttpDestination):
        return None
    page = f"{runtime.base}/dashboard/shared/{MASK}" if destination.links_jobs else None
    has_page = about["job_id"] is not None and runtime.share_links.enabled
    message = Message(
        about["id"], about["type"], about["body"], at, about["job_id"], page if has_page else None
    )
    keys = [_NO_SECRET] if destination.signed else []
    built = destination.request(Target(_ANYWHERE, keys, own, to["options"]), message)
    built.headers["host"] = host_of(to["shown"]) or ""
    return _shown(built, {name.lower() for name in own}) | {"url": to["shown"]}


def _headers(runtime: Runtime, to: SubscriberRow) -> dict[str, str]:
    """Return the subscriber's own headers; none if no key can decrypt them."""
    try:
        stored = runtime.keys.decrypt(to["headers"]) if to["headers"] else "{}"
    except ConfigError:
        return {}
    found: dict[str, str] = json.loads(stored)
    return found


def _shown(request: httpx.Request, own: set[str]) -> Json:
    body = request.content.decode("utf-8", "replace")
    return {
        "method": request.method,
        "headers": {
            name: MASK if name in own else str(masked(value, name))
            for name, value in request.headers.items()
        },
        "body": body[:_CAP],
        "truncated": len(body) > _CAP,
    }
