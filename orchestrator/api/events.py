"""Events: the durable log, newest first, or with `wait` oldest first as it grows (long poll)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.fields import Globs, IdOf
from orchestrator.api.long_poll import MAX_WAIT
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import (
    PageRequest,
    filters,
    list_response,
    plain_digits,
    split_commas,
)
from orchestrator.api.problems import Refusal
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.database.tables.rows import EventRow, fetch
from orchestrator.events.log import Cursor, EventBatch, EventFilter
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.states import EventType
from orchestrator.schemas.base import Json
from orchestrator.schemas.events import event_json

#: Seconds past its time for which a long poll still reads events that are there already.
_OVERTIME = 1.0
TypeGlobs = Annotated[
    Globs, BeforeValidator(split_commas), Field(description="Event types; `*` matches.")
]
Wait = Annotated[
    int,
    Field(
        ge=0,
        le=60,
        description="Seconds, at most 55. The list is oldest first: events after `after`, as they "
        "come.",
    ),
    BeforeValidator(plain_digits),
]


class EventQuery(PageRequest):
    """`GET /v1/events`: `type` is one or more globs, separated by commas.

    `wait`, in seconds, reverses the order: events after `after`, as they come.
    """

    prefix = "evt"

    type: TypeGlobs | None = None
    job: Annotated[str, IdOf("job")] | None = None
    wait: Wait | None = None


def matching_types(globs: Sequence[str] | None) -> frozenset[str] | None:
    """Return the event types that any of the globs matches; None if there are no globs."""
    if globs is None:
        return None
    return frozenset(kind for kind in EventType if matches(tuple(globs), kind))


@operation(
    "List events",
    responses={200: returns(schemas.Page[schemas.LoggedEvent], "Link")},
    problems=("cursor_gone", "unavailable"),
)
async def ls(context: RequestContext, query: EventQuery) -> Response:
    """Newest first. With `wait` oldest first: events after `after`, or from now on.

    A page may hold fewer than `limit`, or none, while `has_more` is true: go on with `next_cursor`.
    """
    if query.wait is not None:
        return await _long_poll(context, query, query.wait)
    runtime = context.runtime
    page = await runtime.store.read(_select, query, runtime.settings.page_bytes)
    return list_response(context, [event_json(row) for row in page.rows], page.next)


async def _long_poll(context: RequestContext, query: EventQuery, wait: int) -> Response:
    """Return the events after a cursor, as soon as there are any. `next_cursor` is always set."""
    runtime, feed = context.runtime, context.runtime.feed
    with runtime.waiting_slots.admit(context.caller.id):
        async with feed.following() as over:
            begin = await feed.cursor(query.after)
            if begin.gap:
                raise _gap(begin)
            wanted = EventFilter(matching_types(query.type), query.job)
            ends = runtime.clock.monotonic() + min(wait, MAX_WAIT)
            batch, cursor = await feed.read(begin.position, wanted, query.limit), begin.id
            while not batch.rows and not over.is_set():
                cursor = batch.last_id or cursor
                left = ends - runtime.clock.monotonic()
                if left <= (-_OVERTIME if batch.more else 0):
                    break
                await feed.wait_beyond(batch.position, left)
                batch = await feed.read(batch.position, wanted, query.limit)
    return reply(_page(batch, cursor))


def _page(batch: EventBatch, cursor: str) -> Json:
    data = [event_json(row) for row in batch.rows]
    last = batch.last_id or (batch.rows[-1]["id"] if data else cursor)
    return {"object": "list", "data": data, "has_more": batch.more, "next_cursor": last}


def _gap(begin: Cursor) -> Refusal:
    """Return the refusal of a cursor after which events may have been deleted."""
    detail = "events after this cursor may have been deleted; go on after `next_cursor`"
    return Refusal("cursor_gone", detail, next_cursor=begin.id)


def _select(tx: Tx, query: EventQuery, max_bytes: int) -> listing.ListPage[listing.ListedEvent]:
    types = matching_types(query.type)
    wanted = filters(job_id=query.job, type=None if types is None else sorted(types))
    return listing.events(tx, wanted, query.after, query.limit, max_bytes=max_bytes)


@operation("Get an event", responses={200: schemas.LoggedEvent})
async def show(context: RequestContext) -> Response:
    """The body that is sent, its job, and the source of the fact."""
    row = await context.runtime.store.read(find_event, context.id("evt"))
    return reply(event_json(or_not_found(row, "event")))


def find_event(tx: Tx, event_id: str) -> EventRow | None:
    """Return an event, or None."""
    return next(iter(fetch(tx, EventRow, sa.select(event).where(event.c.id == event_id))), None)
