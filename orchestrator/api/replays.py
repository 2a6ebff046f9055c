"""Replays: deliveries made due again, for one subscriber or for one event."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from starlette.responses import Response

from orchestrator import subscribers
from orchestrator.api.bodies import Empty, Replay
from orchestrator.api.deliveries import again
from orchestrator.api.door import Call, found, reply
from orchestrator.api.events import find
from orchestrator.bulk import insert
from orchestrator.fanout import matches
from orchestrator.ids import Ids
from orchestrator.states import DeliveryState, SubscriberState
from orchestrator.store import Tx
from orchestrator.tables import delivery, subscriber


async def of_subscriber(call: Call) -> Response:
    """`POST /v1/subscribers/{id}/replay`: what it did not get, or got, in a span of time."""
    body = await call.body(Replay, optional=True)
    subscriber_id, runtime = call.id("sub"), call.runtime
    count = await runtime.store.write(_subscriber, subscriber_id, body, runtime.clock.now())
    found(count, "subscriber")
    runtime.nudge("deliver")
    return reply({"object": "replay", "subscriber": subscriber_id, "count": count}, 202)


def _subscriber(tx: Tx, subscriber_id: str, body: Replay, now: datetime) -> int | None:
    if subscribers.get(tx, subscriber_id) is None:
        return None
    which = sa.and_(delivery.c.subscriber_id == subscriber_id, delivery.c.state == body.status)
    if body.since is not None:
        which = sa.and_(which, delivery.c.created_at >= body.since)
    if body.until is not None:
        which = sa.and_(which, delivery.c.created_at < body.until)
    return again(tx, which, now)


async def of_event(call: Call) -> Response:
    """`POST /v1/events/{id}/replay`: to everyone who was owed it, and to active subscribers who joined since."""
    await call.body(Empty, optional=True)
    event_id, runtime = call.id("evt"), call.runtime
    count = await runtime.store.write(_event, runtime.ids, event_id, runtime.clock.now())
    found(count, "event")
    runtime.nudge("deliver")
    return reply({"object": "replay", "event": event_id, "count": count}, 202)


def _event(tx: Tx, ids: Ids, event_id: str, now: datetime) -> int | None:
    row = find(tx, event_id)
    if row is None:
        return None
    standing = sa.select(subscriber.c.id, subscriber.c.types).where(
        subscriber.c.callback_origin.is_(None), subscriber.c.state == SubscriberState.ACTIVE
    )
    fresh = [
        {"id": ids("dlv"), "event_id": event_id, "subscriber_id": to, "state": DeliveryState.PENDING, "due_at": now,
         "lease": 0, "tries": 0, "created_at": now}
        for to, types in tx.execute(standing)
        if matches(tuple(types), row["type"])
    ]  # fmt: skip
    if fresh:
        tx.execute(insert(tx.dialect.name, delivery).on_conflict_do_nothing(), fresh)
    reachable = delivery.c.subscriber_id.in_(sa.select(subscriber.c.id))
    return again(tx, sa.and_(delivery.c.event_id == event_id, reachable), now)
