"""Events: the durable log of what happened, newest first, or oldest first and as it grows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, found, reply
from orchestrator.api.fields import Globs, IdOf
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, digits, paged, words
from orchestrator.api.problems import Refusal
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.events.log import Cursor, EventFilter
from orchestrator.events.log import EventBatch as Part
from orchestrator.events.outbox import matches
from orchestrator.foundation.states import EventType

Row = Mapping[Any, Any]


def kinds(wanted: Sequence[str] | None) -> frozenset[str] | None:
    """Return the event types that globs match; None if there are no globs."""
    return (
        None
        if wanted is None
        else frozenset(kind for kind in EventType if matches(tuple(wanted), kind))
    )


#: Seconds after its time in which an answer looks on through what is there already.
_LOOK = 1.0
_ABOUT_WAIT = "Seconds. The list is oldest first, of what came after `after`, as it comes."
Wait = Annotated[int, Field(ge=0, le=60, description=_ABOUT_WAIT), BeforeValidator(digits)]


class EventQuery(PageRequest):
    """`GET /v1/events`: `type` is one or more globs, with commas.

    With `wait`, at most so many seconds, the list goes the other way: what came after `after`, as it comes.
    """

    prefix = "evt"

    type: (
        Annotated[Globs, BeforeValidator(words), Field(description="Event types; `*` matches.")]
        | None
    ) = None
    job: Annotated[str, IdOf("job")] | None = None
    wait: Wait | None = None


@operation(
    "List events",
    answers={200: answer(schemas.Page[schemas.LoggedEvent], "Link")},
    refuses=("cursor_gone", "unavailable"),
)
async def ls(call: RequestContext, query: EventQuery) -> Response:
    """Newest first. With `wait` oldest first: what came after `after`, or what comes from now on.

    A page may hold fewer than `limit`, or none, while `has_more` says that `next_cursor` leads on.
    """
    if query.wait is not None:
        return await _follow(call, query, query.wait)
    part = await call.runtime.store.read(_select, query)
    return paged(call, [shown(row) for row in part.rows], part.next)


async def _follow(call: RequestContext, query: EventQuery, wait: int) -> Response:
    """Answer with what came after a cursor, as soon as there is any; `next_cursor` is where to go on, always."""
    runtime, tail = call.runtime, call.runtime.feed
    with runtime.waiting_slots.admit():
        async with tail.following() as over:
            begin = await tail.cursor(query.after)
            if begin.gap:
                raise _gap(begin)
            wanted = EventFilter(kinds(query.type), query.job)
            ends = runtime.clock.monotonic() + wait
            part, cursor = await tail.read(begin.position, wanted, query.limit), begin.id
            while not part.rows and not over.is_set():
                cursor = part.last_id or cursor
                left = ends - runtime.clock.monotonic()
                if left <= (-_LOOK if part.more else 0):
                    break
                await tail.wait_beyond(part.position, left)
                part = await tail.read(part.position, wanted, query.limit)
    return reply(_envelope(part, cursor))


def _envelope(part: Part, cursor: str) -> dict[str, Any]:
    data = [shown(row) for row in part.rows]
    last = part.last_id or (data[-1]["id"] if data else cursor)
    return {"object": "list", "data": data, "has_more": part.more, "next_cursor": last}


def _gap(begin: Cursor) -> Refusal:
    """Return the refusal of a cursor after which events may be deleted."""
    why = "what came after this event may be deleted already; go on after `next_cursor`"
    return Refusal(
        why, status=410, code="cursor_gone", title="The log begins later", next_cursor=begin.id
    )


def _select(tx: Tx, query: EventQuery) -> listing.ListPage[listing.ListedEvent]:
    wanted = {} if query.job is None else {"job_id": [query.job]}
    if query.type is not None:
        wanted["type"] = sorted(kinds(query.type) or ())
    return listing.events(tx, wanted, query.after, query.limit)


@operation("Get an event", answers={200: schemas.LoggedEvent})
async def show(call: RequestContext) -> Response:
    """What was sent, which job it is of, and who told us."""
    return reply(shown(found(await call.runtime.store.read(find, call.id("evt")), "event")))


def find(tx: Tx, event_id: str) -> Row | None:
    """Return an event, or None."""
    return tx.execute(sa.select(event).where(event.c.id == event_id)).mappings().first()


def shown(row: Row) -> dict[str, Any]:
    """Return an event: what was sent, and what it is about."""
    return {
        "object": "event",
        **json.loads(row["body"]),
        "job": row["job_id"],
        "source": row["source"],
    }
