"""OpenAPI for the other directions: events sent to subscribers, and the endpoint for vendors."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel

from orchestrator import schemas
from orchestrator.api.openapi import examples
from orchestrator.api.openapi.components import AT, Components
from orchestrator.api.operation import JSON
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import EventType
from orchestrator.schemas.base import Json
from orchestrator.schemas.example_values import IDS

#: The data of events, by the first word of their type; `EventType` has no others.
_DATA: dict[str, type[BaseModel]] = {
    "job": schemas.Job,
    "subscriber": schemas.Subscriber,
    "account": schemas.AccountTrouble,
    "ingress": schemas.IngressTrouble,
}
#: The data of the types that differ.
_OTHER_DATA: dict[str, type[BaseModel]] = {
    EventType.ACCOUNT_PUSH_DEGRADED: schemas.AccountFact,
    EventType.ACCOUNT_PUSH_RECOVERED: schemas.AccountFact,
}
_DESCRIPTIONS = {
    EventType.JOB_SUBMITTED: "The vendor has the job.",
    EventType.JOB_PROCESSING: "The vendor reports that it is working on the job.",
    EventType.JOB_SUCCEEDED: "The job has its outputs. `late` is true if it had expired before.",
    EventType.JOB_FAILED: "The job will not succeed; its `error` says why. `late` is true if it "
    "had expired before.",
    EventType.JOB_CANCELED: "An operator stopped following the job.",
    EventType.JOB_EXPIRED: "The job's deadline passed. The vendor's result may still follow.",
    EventType.JOB_STUCK: "The vendor answers that it does not know the task which it accepted. The "
    "job stays live.",
    EventType.SUBSCRIBER_FAILING: "Deliveries to another subscriber fail, ten in a row or for five "
    "minutes. They are retried.",
    EventType.SUBSCRIBER_RECOVERED: "Another subscriber that was failing accepts deliveries again: "
    "its retries are due at once.",
    EventType.SUBSCRIBER_DISABLED: "Another subscriber was disabled; `disabled_reason` says why.",
    EventType.ACCOUNT_PUSH_DEGRADED: "Jobs of an account complete without a push: its pushes have "
    "stopped.",
    EventType.ACCOUNT_PUSH_RECOVERED: "An account's pushes are back.",
    EventType.ACCOUNT_PAUSED: "The vendor limits submissions of an account. Its jobs wait; further "
    "pauses have no event until the account has recovered.",
    EventType.ACCOUNT_UNAUTHORIZED: "The vendor refuses the credentials of an account. Its jobs "
    "stay queued until a check shows that they are accepted.",
    EventType.ACCOUNT_EXHAUSTED: "The balance or the quota of an account is used up. Its jobs stay "
    "queued until the vendor accepts one of them.",
    EventType.ACCOUNT_RECOVERED: "The vendor accepts jobs of an account again; `reason` says what "
    "is over.",
    EventType.INGRESS_UNREACHABLE: "Callbacks through the public URL do not arrive, so pushes do "
    "not either; status queries find the results.",
    EventType.INGRESS_RECOVERED: "Callbacks through the public URL arrive again.",
    EventType.TEST: "What `POST /v1/subscribers/{id}/test` sends, to that subscriber alone.",
}
_TEXT = {"type": "string"}
_SIGNATURE_HEADERS: dict[str, Json] = {
    "webhook-id": {
        "description": "The event's id, the same on every attempt: use it to ignore duplicates.",
        "schema": _TEXT,
        "example": IDS["evt"],
    },
    "webhook-timestamp": {
        "description": "The time of the attempt, in seconds since 1970.",
        "schema": {**_TEXT, "pattern": "^[0-9]+$"},
        "example": "1795168872",
    },
    "webhook-signature": {
        "description": "`v1,` and the Base64 of an HMAC-SHA256 over `{id}.{timestamp}.{body}`; one "
        "for each valid secret, separated by spaces (Standard Webhooks).",
        "schema": _TEXT,
        "example": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    },
}
_PUSH_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "It is not JSON.",
    HTTPStatus.UNAUTHORIZED: "The vendor's own signature is missing, wrong or stale.",
    HTTPStatus.NOT_FOUND: "The token is forged or expired.",
    HTTPStatus.REQUEST_TIMEOUT: "The body took too long.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "It is over 1 MiB.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Our own trouble, nothing was stored. Send it again after "
    "`Retry-After` seconds.",
}


def models() -> tuple[type[BaseModel], ...]:
    """Return the models that are used here."""
    return (schemas.Event, schemas.Taken, schemas.PushRefusal, *_every_data())


def _every_data() -> list[type[BaseModel]]:
    return list(dict.fromkeys([*_DATA.values(), *_OTHER_DATA.values()]))


def schema_name(kind: EventType) -> str:
    """Return `JobSucceededEvent` for `job.succeeded`."""
    return "".join(word.capitalize() for word in kind.value.replace(".", "_").split("_")) + "Event"


def event_schemas(components: Components) -> Json:
    """Return a schema for each type of event. Narrows `data` of the general ones on the way."""
    data = [components.written(model) for model in _every_data()]
    for model in (schemas.Event, schemas.LoggedEvent):
        components.schemas[model.__name__]["properties"]["data"] = {"anyOf": data}
    return {
        schema_name(kind): {
            "description": _DESCRIPTIONS[kind],
            "allOf": [components.written(schemas.Event)],
            "properties": {"type": {"const": kind.value}, "data": components.written(_data(kind))},
        }
        for kind in EventType
    }


def _data(kind: EventType) -> type[BaseModel]:
    return _OTHER_DATA.get(kind) or _DATA[kind.partition(".")[0]]


def webhooks() -> Json:
    """Return the webhooks, one for each type of event."""
    return {kind.value: {"post": _webhook(kind)} for kind in EventType}


def _webhook(kind: EventType) -> Json:
    content = {"schema": {"$ref": AT + schema_name(kind)}, "example": examples.event(kind)}
    return {
        "operationId": f"on_{kind.value.replace('.', '_')}",
        "tags": ["webhooks"],
        "summary": kind.value,
        "description": _DESCRIPTIONS[kind],
        "parameters": [
            {"name": name, "in": "header", "required": True, **header}
            for name, header in _SIGNATURE_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {JSON: content}},
        "responses": {
            "2XX": {"description": "Received."},
            "410": {"description": "Gone: the subscriber is disabled."},
            "default": {"description": "Retried, with growing delays."},
        },
        "security": [],
    }


def stream_content() -> Json:
    """Return the content of an event stream: a schema for each event name, and an example."""
    gap: Json = {
        "type": "object",
        "properties": {"type": {"const": "stream.gap"}, "resumes_after": _TEXT},
    }
    events = {kind.value: {"$ref": AT + schema_name(kind)} for kind in EventType}
    data = encode(examples.event(EventType.JOB_SUCCEEDED)).decode()
    example = f"id: {IDS['evt']}\nevent: job.succeeded\ndata: {data}\n\n"
    return {"schema": _TEXT, "x-sse-events": events | {"stream.gap": gap}, "example": example}


def push_operation(components: Components) -> Json:
    """Return the operation of the callback endpoint."""
    stored = {"schema": components.written(schemas.Taken), "example": {"ok": True}}
    refusals = {
        str(int(status)): _refusal(status, detail, components)
        for status, detail in _PUSH_REFUSALS.items()
    }
    refusals["503"]["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    path = {"in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
    return {
        "operationId": "push",
        "tags": ["vendors"],
        "summary": "Push a report",
        "description": "Where a vendor reports the progress of a job; each job has its own "
        "address. Repeats change nothing and get 200 too. The vendor defines the body.",
        "parameters": [{"name": name, **path} for name in ("account", "token")],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": {}, "example": {"task_id": "90193357"}}},
        },
        "responses": {"200": {"description": "Stored.", "content": {JSON: stored}}, **refusals},
        "security": [],
    }


def _refusal(status: HTTPStatus, detail: str, components: Components) -> Json:
    example = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": status.phrase.lower().replace(" ", "_"),
        "detail": detail,
    }
    content = {"schema": components.written(schemas.PushRefusal), "example": example}
    return {"description": detail, "content": {"application/problem+json": content}}
