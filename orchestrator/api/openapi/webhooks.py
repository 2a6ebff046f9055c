"""What is no call of a caller: events as subscribers are sent them, and pushes as vendors send them."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel

from orchestrator import schemas as shapes
from orchestrator.api.openapi import examples
from orchestrator.api.openapi.components import AT, Json, Schemas
from orchestrator.api.operation import JSON
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import EventType

#: What an event is about, by the first word of its type; `EventType` has no others.
_DATA: dict[str, type[BaseModel]] = {
    "job": shapes.Job, "subscriber": shapes.Subscriber, "account": shapes.AccountFact
}  # fmt: skip
_TELLS = {
    EventType.JOB_SUBMITTED: "The vendor has the job.",
    EventType.JOB_PROCESSING: "The vendor says it is working on the job.",
    EventType.JOB_SUCCEEDED: "The job has its outputs. `late` is true if it had expired before.",
    EventType.JOB_FAILED: "The job will not succeed; its `error` says why. `late` is true if it had expired before.",
    EventType.JOB_CANCELED: "Somebody told us to stop following the job.",
    EventType.JOB_EXPIRED: "The job's deadline passed. The vendor's verdict may still follow.",
    EventType.SUBSCRIBER_DISABLED: "We switched another subscriber off; `disabled_reason` says why.",
    EventType.ACCOUNT_PUSH_DEGRADED: "Jobs of an account complete, and no push tells of it: its pushes have stopped.",
    EventType.ACCOUNT_PUSH_RECOVERED: "An account's pushes are back.",
    EventType.TEST: "What `POST /v1/subscribers/{id}/test` sends, to that subscriber alone.",
}
_SIGNED: dict[str, Json] = {
    "webhook-id": {"description": "The event's id, the same on every attempt: what was seen already is not news.",
                   "schema": {"type": "string"}, "example": examples.IDS["evt"]},
    "webhook-timestamp": {"description": "Seconds since 1970, of the attempt.",
                          "schema": {"type": "string", "pattern": "^[0-9]+$"}, "example": "1795168872"},
    "webhook-signature": {"description": "`v1,` and the Base64 of an HMAC-SHA256 over `{id}.{timestamp}.{body}`; one "
                                         "for each valid secret, with spaces between them (Standard Webhooks).",
                          "schema": {"type": "string"}, "example": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="},
}  # fmt: skip
_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "It is not JSON.",
    HTTPStatus.UNAUTHORIZED: "The vendor's own signature is missing, wrong or stale.",
    HTTPStatus.NOT_FOUND: "The token is not one of ours, or not good any more.",
    HTTPStatus.REQUEST_TIMEOUT: "The body took too long.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "It is over 1 MiB.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Our own trouble, nothing was kept. Send it again after `Retry-After` seconds.",
}


def models() -> tuple[type[BaseModel], ...]:
    """Return the models of everything here."""
    return (shapes.Event, shapes.Taken, shapes.PushRefusal, *_DATA.values())


def name(kind: EventType) -> str:
    """Return `JobSucceededEvent` for `job.succeeded`."""
    return "".join(word.capitalize() for word in kind.value.replace(".", "_").split("_")) + "Event"


def events(schemas: Schemas) -> Json:
    """Return a component for each type of event; what `Event` tells of is made precise on the way."""
    about = [schemas.written(model) for model in _DATA.values()]
    for one in (shapes.Event, shapes.LoggedEvent):
        schemas.components[one.__name__]["properties"]["data"] = {"anyOf": about}
    return {
        name(kind): {
            "description": _TELLS[kind],
            "allOf": [schemas.written(shapes.Event)],
            "properties": {
                "type": {"const": kind.value},
                "data": schemas.written(_DATA[kind.partition(".")[0]]),
            },
        }
        for kind in EventType
    }


def webhooks() -> Json:
    """Return what subscribers are sent, type by type."""
    return {kind.value: {"post": _webhook(kind)} for kind in EventType}


def _webhook(kind: EventType) -> Json:
    content = {"schema": {"$ref": AT + name(kind)}, "example": examples.event(kind)}
    return {
        "operationId": f"on_{kind.value.replace('.', '_')}",
        "tags": ["webhooks"],
        "summary": kind.value,
        "description": _TELLS[kind],
        "parameters": [
            {"name": name, "in": "header", "required": True, **said}
            for name, said in _SIGNED.items()
        ],
        "requestBody": {"required": True, "content": {JSON: content}},
        "responses": {
            "2XX": {"description": "Taken."},
            "410": {"description": "Nobody is here any more: the subscriber is disabled."},
            "default": {"description": "Sent again, later and later."},
        },
        "security": [],
    }


def stream() -> Json:
    """Return what an event stream carries: by the name of each event there, and as a piece of one."""
    gap: Json = {
        "type": "object",
        "properties": {"type": {"const": "stream.gap"}, "resumes_after": {"type": "string"}},
    }
    events = {kind.value: {"$ref": AT + name(kind)} for kind in EventType} | {"stream.gap": gap}
    said = encode(examples.event(EventType.JOB_SUCCEEDED)).decode()
    example = f"id: {examples.IDS['evt']}\nevent: job.succeeded\ndata: {said}\n\n"
    return {"schema": {"type": "string"}, "x-sse-events": events, "example": example}


def door(schemas: Schemas) -> Json:
    """Return where vendors push."""
    taken = {"schema": schemas.written(shapes.Taken), "example": {"ok": True}}
    answers = {
        str(int(status)): _refused(status, why, schemas) for status, why in _REFUSALS.items()
    }
    answers["503"]["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return {
        "operationId": "push",
        "tags": ["vendors"],
        "summary": "Push a report",
        "description": "Where a vendor says what becomes of a job; each job has an address of its own. Repeats change "
        "nothing and are 200 too. What the body looks like is up to the vendor.",
        "parameters": [
            {
                "name": one,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            }
            for one in ("account", "token")
        ],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {}, "example": {"task_id": "90193357"}}},
        },
        "responses": {"200": {"description": "Kept.", "content": {JSON: taken}}, **answers},
        "security": [],
    }


def _refused(status: HTTPStatus, why: str, schemas: Schemas) -> Json:
    said = {"type": "about:blank", "title": status.phrase, "status": int(status)}
    example = said | {"code": status.phrase.lower().replace(" ", "_"), "detail": why}
    content = {"schema": schemas.written(shapes.PushRefusal), "example": example}
    return {"description": why, "content": {"application/problem+json": content}}
