"""Events: the durable log of what happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BeforeValidator
from starlette.responses import Response

from orchestrator.api.bodies import Globs
from orchestrator.api.deliveries import id_of
from orchestrator.api.door import Call, found, reply
from orchestrator.api.pages import Page, listed, newest
from orchestrator.fanout import matches
from orchestrator.states import EventType
from orchestrator.store import Tx
from orchestrator.tables import event

Row = Mapping[Any, Any]


def _globs(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class EventQuery(Page):
    """`GET /v1/events`: `type` is one or more globs, with commas."""

    prefix = "evt"

    type: Annotated[Globs, BeforeValidator(_globs)] | None = None
    job: Annotated[str, id_of("job")] | None = None


async def ls(call: Call) -> Response:
    """`GET /v1/events`, newest first."""
    query = call.query(EventQuery)
    return listed(call, await call.runtime.store.read(_select, query), query, shown)


def _select(tx: Tx, query: EventQuery) -> list[Row]:
    chosen = sa.select(event)
    if query.type is not None:
        chosen = chosen.where(event.c.type.in_([kind for kind in EventType if matches(tuple(query.type), kind)]))
    if query.job is not None:
        chosen = chosen.where(event.c.job_id == query.job)
    return newest(tx, chosen, event.c.id, query)


async def show(call: Call) -> Response:
    """`GET /v1/events/{id}`."""
    return reply(shown(found(await call.runtime.store.read(find, call.id("evt")), "event")))


def find(tx: Tx, event_id: str) -> Row | None:
    """Return an event, or None."""
    return tx.execute(sa.select(event).where(event.c.id == event_id)).mappings().first()


def shown(row: Row) -> dict[str, Any]:
    """Return an event: what was sent, and what it is about."""
    return {"object": "event", **json.loads(row["body"]), "job": row["job_id"], "source": row["source"]}
