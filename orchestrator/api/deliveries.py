"""Deliveries: what is owed to whom, every attempt at it, and another one on request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from orchestrator import wire
from orchestrator.api.bodies import Empty
from orchestrator.api.door import Call, found, reply
from orchestrator.api.pages import Page, listed, newest
from orchestrator.errors import Conflict
from orchestrator.ids import is_id
from orchestrator.states import DeliveryState
from orchestrator.store import Tx
from orchestrator.tables import attempt, delivery, event, subscriber

Row = Mapping[Any, Any]

_WITH_EVENT = sa.select(delivery, event.c.type, event.c.job_id).join(event, event.c.id == delivery.c.event_id)


def id_of(prefix: str) -> AfterValidator:
    """Return a check that a parameter is one of our ids with that prefix."""

    def check(value: str) -> str:
        if not is_id(value, prefix):
            raise PydanticCustomError("id", "Not an id of that kind")
        return value

    return AfterValidator(check)


class DeliveryQuery(Page):
    """`GET /v1/deliveries`."""

    prefix = "dlv"

    status: DeliveryState | None = None
    subscriber: Annotated[str, id_of("sub")] | None = None
    event: Annotated[str, id_of("evt")] | None = None


async def ls(call: Call) -> Response:
    """`GET /v1/deliveries`, newest first."""
    query = call.query(DeliveryQuery)
    return listed(call, await call.runtime.store.read(_select, query), query, wire.delivery)


def _select(tx: Tx, query: DeliveryQuery) -> list[Row]:
    wanted = {"state": query.status, "subscriber_id": query.subscriber, "event_id": query.event}
    chosen = _WITH_EVENT
    for name, value in wanted.items():
        if value is not None:
            chosen = chosen.where(delivery.c[name] == value)
    return newest(tx, chosen, delivery.c.id, query)


async def show(call: Call) -> Response:
    """`GET /v1/deliveries/{id}`, with its attempts."""
    row, attempts = await call.runtime.store.read(_find, call.id("dlv"))
    return reply(wire.delivery(found(row, "delivery"), attempts))


def _find(tx: Tx, delivery_id: str) -> tuple[Row | None, list[Row]]:
    row = tx.execute(_WITH_EVENT.where(delivery.c.id == delivery_id)).mappings().first()
    tried = sa.select(attempt).where(attempt.c.delivery_id == delivery_id).order_by(attempt.c.n)
    return row, list(tx.execute(tried).mappings())


async def retry(call: Call) -> Response:
    """`POST /v1/deliveries/{id}/retry`: an attempt now, whatever its state; its schedule goes on after it."""
    await call.body(Empty, optional=True)
    runtime = call.runtime
    row, attempts = await runtime.store.write(_hurry, call.id("dlv"), runtime.clock.now())
    shown = wire.delivery(found(row, "delivery"), attempts)
    runtime.nudge("deliver")
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
