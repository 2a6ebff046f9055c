"""Deliveries: what is owed to whom, every attempt at it, and another one on request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, found, reply
from orchestrator.api.fields import IdOf
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, paged, words
from orchestrator.api.requests import Empty
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, event, subscriber
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.states import DeliveryState
from orchestrator.schemas.deliveries import delivery_json

Row = Mapping[Any, Any]

_WITH_EVENT = sa.select(delivery, event.c.type, event.c.job_id).join(
    event, event.c.id == delivery.c.event_id
)


States = Annotated[
    tuple[DeliveryState, ...], BeforeValidator(words), Field(description="One or more.")
]


class DeliveryQuery(PageRequest):
    """`GET /v1/deliveries`."""

    prefix = "dlv"

    status: States | None = None
    subscriber: Annotated[str, IdOf("sub")] | None = None
    event: Annotated[str, IdOf("evt")] | None = None


@operation("List deliveries", answers={200: answer(schemas.Page[schemas.Delivery], "Link")})
async def ls(call: RequestContext, query: DeliveryQuery) -> Response:
    """Newest first. A page may hold fewer than `limit`, or none, while `has_more` says that `next_cursor` leads on."""
    part = await call.runtime.store.read(_select, query)
    return paged(call, [delivery_json(row) for row in part.rows], part.next)


def _select(tx: Tx, query: DeliveryQuery) -> listing.ListPage[listing.ListedDelivery]:
    named = {"subscriber_id": query.subscriber, "event_id": query.event}
    wanted = {name: [value] for name, value in named.items() if value is not None}
    if query.status is not None:
        wanted["state"] = list(dict.fromkeys(query.status))
    return listing.deliveries(tx, wanted, query.after, query.limit)


@operation("Get a delivery", answers={200: schemas.TriedDelivery})
async def show(call: RequestContext) -> Response:
    """With every attempt at it."""
    row, attempts = await call.runtime.store.read(_find, call.id("dlv"))
    return reply(delivery_json(found(row, "delivery"), attempts))


def _find(tx: Tx, delivery_id: str) -> tuple[Row | None, list[Row]]:
    row = tx.execute(_WITH_EVENT.where(delivery.c.id == delivery_id)).mappings().first()
    tried = sa.select(attempt).where(attempt.c.delivery_id == delivery_id).order_by(attempt.c.n)
    return row, list(tx.execute(tried).mappings())


@operation("Retry a delivery", answers={202: schemas.TriedDelivery}, refuses=("conflict",))
async def retry(call: RequestContext, body: Empty) -> Response:
    """An attempt now, whatever its state; its schedule goes on after it."""
    runtime = call.runtime
    row, attempts = await runtime.store.write(_hurry, call.id("dlv"), runtime.clock.now())
    shown = delivery_json(found(row, "delivery"), attempts)
    runtime.notifier.wake("deliver")
    return reply(shown, 202)


def _hurry(tx: Tx, delivery_id: str, now: datetime) -> tuple[Row | None, list[Row]]:
    row, _ = _find(tx, delivery_id)
    if row is not None:
        to = row["subscriber_id"]
        if tx.execute(sa.select(subscriber.c.id).where(subscriber.c.id == to)).first() is None:
            raise Conflict("the subscriber of this delivery was deleted")
        again(tx, sa.and_(delivery.c.id == delivery_id), now)
    return _find(tx, delivery_id)


def again(tx: Tx, which: sa.ColumnElement[bool], now: datetime) -> int:
    """Make deliveries due now, whatever their state; return how many. Tries made stay counted."""
    due = {"state": DeliveryState.PENDING, "due_at": now, "done_at": None}
    return tx.execute(sa.update(delivery).where(which).values(**due)).rowcount
