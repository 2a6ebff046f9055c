"""Deliveries: listed, shown with their attempts, retried on request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, cast

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import delivery_requests
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.fields import IdOf
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, filters, list_response, split_commas
from orchestrator.api.requests import Empty
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, callback_address, delivery, event, job, subscriber
from orchestrator.database.tables.rows import AttemptRow, fetch
from orchestrator.foundation import off_loop
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.states import DeliveryState
from orchestrator.schemas.base import Json
from orchestrator.schemas.deliveries import DeliveryColumns, delivery_json

#: Attempts that are shown: a delivery may be retried any number of times.
_MAX_ATTEMPTS = 100
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
    now = context.runtime.clock.now()
    return list_response(context, [delivery_json(row, now) for row in page.rows], page.next)


def _select(tx: Tx, query: DeliveryQuery) -> listing.ListPage[DeliveryColumns]:
    wanted = filters(state=query.status, subscriber_id=query.subscriber, event_id=query.event)
    page = listing.deliveries(tx, wanted, query.after, query.limit)
    return listing.ListPage(_with_receivers(tx, page.rows), page.next)


def _with_receivers(tx: Tx, rows: Sequence[listing.ListedDelivery]) -> list[DeliveryColumns]:
    """Return deliveries with what is shown of their subscribers, and the rests of their addresses.

    Not a join in the list, which would mislead a planner about its index.
    """
    chosen = subscriber.c.id.in_({row["subscriber_id"] for row in rows})
    lanes = {lane.id: lane for lane in tx.execute(_LANES.where(chosen))}
    jobs = {"jobs": list({row["job_id"] for row in rows})}
    rests = {found.id: found.resting_until for found in tx.execute(_RESTS, jobs)}
    shown: list[DeliveryColumns] = []
    for row in rows:
        lane = lanes.get(row["subscriber_id"])
        rest = lane.resting_until if lane else None
        if lane and lane.callback_origin is not None:
            rest = rests.get(row["job_id"])
        state, address = (lane.state, lane.shown) if lane else (None, None)
        more = {"subscriber_state": state, "shown": address, "resting_until": rest}
        shown.append(cast(DeliveryColumns, {**row, **more}))
    return shown


_LANES = sa.select(
    *(subscriber.c[name] for name in ("id", "state", "shown", "resting_until", "callback_origin"))
)
_RESTS = (
    sa.select(job.c.id, callback_address.c.resting_until)
    .join(callback_address, callback_address.c.key == job.c.callback_key)
    .where(job.c.id.in_(sa.bindparam("jobs", expanding=True)))
)
_ONE = (
    sa.select(delivery, event.c.type, event.c.job_id)
    .join(event, event.c.id == delivery.c.event_id)
    .where(delivery.c.id == sa.bindparam("delivery"))
)


@operation("Get a delivery", responses={200: schemas.TriedDelivery})
async def show(context: RequestContext) -> Response:
    """With the newest hundred attempts at it, and the request, its secrets masked."""
    runtime, delivery_id = context.runtime, context.id("dlv")
    row, attempts = await runtime.store.read(_find, delivery_id)
    return reply(await _with_request(context, or_not_found(row, "delivery"), attempts))


async def _with_request(
    context: RequestContext, row: DeliveryColumns, attempts: Sequence[AttemptRow]
) -> Json:
    """Return a delivery with its attempts and its request."""
    runtime = context.runtime
    parties = await runtime.store.read(delivery_requests.parties, row["id"])
    request = None
    if parties is not None:
        at = attempts[-1]["at"] if attempts else row["created_at"]
        size, build = len(parties[0]["body"]), delivery_requests.request_json
        # Some kinds parse the event.
        request = await off_loop.callers.run(context.caller.id, size, build, runtime, *parties, at)
    return delivery_json(row, runtime.clock.now(), attempts, request)


def _find(tx: Tx, delivery_id: str) -> tuple[DeliveryColumns | None, list[AttemptRow]]:
    found = fetch(tx, listing.ListedDelivery, _ONE, {"delivery": delivery_id})
    rows = _with_receivers(tx, found)
    mine = sa.select(attempt).where(attempt.c.delivery_id == delivery_id)
    newest = mine.order_by(attempt.c.n.desc()).limit(_MAX_ATTEMPTS)
    return next(iter(rows), None), fetch(tx, AttemptRow, newest)[::-1]


@operation("Retry a delivery", responses={202: schemas.TriedDelivery}, problems=("conflict",))
async def retry(context: RequestContext, body: Empty) -> Response:
    """One attempt now, whatever its state, and although its subscriber rests.

    Its schedule continues after it.
    """
    runtime = context.runtime
    delivery_id, now = context.id("dlv"), runtime.clock.now()
    row, attempts = await runtime.store.write(_retry, delivery_id, now)
    found = or_not_found(row, "delivery")
    runtime.notifier.wake("deliver")
    return reply(await _with_request(context, found, attempts), 202)


def _retry(
    tx: Tx, delivery_id: str, now: datetime
) -> tuple[DeliveryColumns | None, list[AttemptRow]]:
    """Unit of work: make a delivery due now. Tries already made stay counted."""
    row, _ = _find(tx, delivery_id)
    if row is not None:
        to = row["subscriber_id"]
        if tx.execute(sa.select(subscriber.c.id).where(subscriber.c.id == to)).first() is None:
            raise Conflict("the subscriber of this delivery was deleted")
        due = {"state": DeliveryState.PENDING, "due_at": now, "forced_at": now, "done_at": None}
        tx.execute(sa.update(delivery).where(delivery.c.id == delivery_id).values(**due))
    return _find(tx, delivery_id)
