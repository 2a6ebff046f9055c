"""Whether a subscriber receives an event, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.fields import IdOf
from orchestrator.api.operation import operation
from orchestrator.api.requests import Body
from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.events import subscribers
from orchestrator.events.explanation import explain
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.json_codec import parse
from orchestrator.schemas.subscribers import explanation_json


class Question(Body):
    """`POST /v1/subscribers/{id}/explain`: an event of the log, or the body of one."""

    event: Annotated[str, IdOf("evt")] | None = None
    body: Annotated[dict[str, Any], Field(description="As an event's body.")] | None = None


@operation(
    "Explain whether a subscriber receives an event",
    responses={200: schemas.Explanation},
    problems=("conflict",),
)
async def show(context: RequestContext, body: Question) -> Response:
    """By its types, its filter and its state as they are now. Nothing is sent."""
    if (body.event is None) is (body.body is None):
        raise problems.invalid_field("/event", "one_of", "Give either `event` or `body`")
    store = context.runtime.store
    row = or_not_found(await store.read(subscribers.find, context.id("sub")), "subscriber")
    if row["callback_origin"] is not None:
        raise Conflict("it stands for callback URLs, which receive the events that jobs name")
    about: Mapping[str, Any] | None = body.body
    if body.event is not None:
        about = or_not_found(await store.read(_body_of, body.event), "event")
    assert about is not None
    return reply(explanation_json(*explain(row, about)))


def _body_of(tx: Tx, event_id: str) -> Any:
    found = tx.scalar(sa.select(event.c.body).where(event.c.id == event_id))
    return None if found is None else parse(found)
