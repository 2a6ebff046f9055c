"""Deliveries: listed, shown with their attempts, retried on request."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.fields import IdOf
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, filters, list_response, split_commas
from orchestrator.api.requests import Empty
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, event, subscriber
from orchestrator.database.tables.rows import AttemptRow, fetch
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.states import DeliveryState
from orchestrator.schemas.deliveries import DeliveryColumns, delivery_json

_WITH_EVENT = sa.select(delivery, event.c.type, event.c.job_id).join(
    event, event.c.id == delivery.c.event_id
)
States = Annotated[
    tuple[DeliveryState, ...], BeforeValidator(split_commas), Field(description="One or more.")
]


class DeliveryQuery(PageRequest):
    """`GET /v1/deliveries`."""

    prefix = "dlv"

    status: States | None = None
    subscriber: Annotated[str, IdOf("sub")] | None = None
    event: Annotated[str, IdOf("evt")] | None = None


@operation("List deliveries", responses={200: returns(schemas.Page[schemas.Delivery], "Link")})
async def ls(context: RequestContext, query: DeliveryQuery) -> Response:
    """Newest first. A page may hold fewer than `limit`, or none, while `has_more` is true."""
    page = await context.runtime.store.read(_select, query)
    return list_response(context, [delivery_json(row) for row in page.rows], page.next)


def _select(tx: Tx, query: DeliveryQuery) -> listing.ListPage[listing.ListedDelivery]:
    wanted = filters(state=query.status, subscriber_id=query.subscriber, event_id=query.event)
    return listing.deliveries(tx, wanted, query.after, query.limit)


@operation("Get a delivery", responses={200: schemas.TriedDelivery})
async def show(context: RequestContext) -> Response:
    """With every attempt at it."""
    row, attempts = await context.runtime.store.read(_find, context.id("dlv"))
    return reply(delivery_json(or_not_found(row, "delivery"), attempts))


def _find(tx: Tx, delivery_id: str) -> tuple[DeliveryColumns | None, list[AttemptRow]]:
    rows = fetch(tx, DeliveryColumns, _WITH_EVENT.where(delivery.c.id == delivery_id))
    mine = sa.select(attempt).where(attempt.c.delivery_id == delivery_id).order_by(attempt.c.n)
    return next(iter(rows), None), fetch(tx, AttemptRow, mine)


@operation("Retry a delivery", responses={202: schemas.TriedDelivery}, problems=("conflict",))
async def retry(context: RequestContext, body: Empty) -> Response:
    """One attempt now, whatever its state; its schedule continues after it."""
    runtime = context.runtime
    row, attempts = await runtime.store.write(_retry, context.id("dlv"), runtime.clock.now())
    shown = delivery_json(or_not_found(row, "delivery"), attempts)
    runtime.notifier.wake("deliver")
    return reply(shown, 202)


def _retry(
    tx: Tx, delivery_id: str, now: datetime
) -> tuple[DeliveryColumns | None, list[AttemptRow]]:
    """Unit of work: make a delivery due now. Tries already made stay counted."""
    row, _ = _find(tx, delivery_id)
    if row is not None:
        to = row["subscriber_id"]
        if tx.execute(sa.select(subscriber.c.id).where(subscriber.c.id == to)).first() is None:
            raise Conflict("the subscriber of this delivery was deleted")
        due = {"state": DeliveryState.PENDING, "due_at": now, "done_at": None}
        tx.execute(sa.update(delivery).where(delivery.c.id == delivery_id).values(**due))
    return _find(tx, delivery_id)
