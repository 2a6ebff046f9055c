"""`GET /openapi.json`: written from the routes, declarations and models that serve the requests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from starlette.responses import Response
from starlette.routing import Route

from orchestrator import __version__, schemas
from orchestrator.api.docs import NOT_MODIFIED, etag, static_response
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.openapi import headers, operations, webhooks
from orchestrator.api.openapi.components import Components
from orchestrator.api.openapi.operations import OperationRoute
from orchestrator.api.operation import operation, returns
from orchestrator.api.problems import CODES
from orchestrator.foundation.json_codec import encode
from orchestrator.schemas.base import Json

_DESCRIPTION = """\
Owns video-generation jobs: submits them to vendors with a callback, receives signed pushes, polls
only when a push is missing, and notifies subscribers exactly once that a job is done.

* **Errors** are RFC 9457 `application/problem+json`. `code` says what to do, `type` explains it.
* **Lists** are newest first, unless stated otherwise. Send `next_cursor` as `after` to go on.
* **Waiting**: `Prefer: wait=N`, `GET /v1/events/stream`, or a subscriber that is sent webhooks.
* **Fields** are only ever added: ignore unknown ones. Requests may hold no unknown fields.
"""
_TAGS = {
    "jobs": "Work that vendors are asked to do.",
    "files": "Files that vendors are given beforehand.",
    "events": "The log of what happened.",
    "subscribers": "Receivers of events.",
    "destinations": "Kinds of addresses that subscribers may have.",
    "replays": "Deliveries made due again.",
    "deliveries": "Events owed to subscribers, and their attempts.",
    "accounts": "Configured vendor accounts and their state.",
    "stats": "Counts of the whole service, and its history.",
    "signing-key": "What verifies deliveries to a job's own `callback_url`.",
    "keys": "The callers' keys. For admins.",
    "service": "The service itself. No key.",
    "vendors": "Where vendors push. No key: the address is the secret.",
    "webhooks": "Sent to subscribers, signed as https://www.standardwebhooks.com specifies.",
}
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "orc_...",
    "description": "A key and its scope: `read`, `write` or `admin`, each including the previous "
    "ones.",
}


class Document:
    """The document of a service, built on the first request, on another thread since it is slow."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._routes: Sequence[Route] = ()
        self._lock = asyncio.Lock()
        self._content: tuple[bytes, str] | None = None

    def describe(self, routes: Iterable[Route]) -> None:
        """Set the routes that the document describes."""
        self._routes = tuple(routes)

    @operation(
        "Get the API document",
        responses={200: returns(schemas.OpenApi, "ETag"), 304: NOT_MODIFIED},
        lenient=True,
    )
    async def show(self, context: RequestContext) -> Response:
        """OpenAPI 3.1."""
        async with self._lock:
            if self._content is None:
                self._content = await asyncio.to_thread(self._write)
        return static_response(context, *self._content, "application/json")

    def _write(self) -> tuple[bytes, str]:
        content = encode(document(self._routes, self._base))
        return content, etag(content)


def document(routes: Iterable[Route], base: str) -> Json:
    """Return the OpenAPI 3.1 document of a service at `base`."""
    known = list(operations.operation_routes(routes))
    components = _components(known)
    events = webhooks.event_schemas(components)
    paths: dict[str, Json] = defaultdict(dict)
    for route in known:
        paths[route.path][route.method.lower()] = operations.operation_object(route, components)
    stream = paths["/v1/events/stream"]["get"]["responses"]["200"]
    stream["content"]["text/event-stream"] = webhooks.stream_content()
    push = {"post": webhooks.push_operation(components)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "orchestrator", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": base}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": {**paths, "/callbacks/{account}/{token}": push},
        "webhooks": webhooks.webhooks(),
        "components": {
            "schemas": dict(sorted({**components.schemas, **events}.items())),
            "responses": {code: operations.problem_object([code]) for code in CODES},
            "parameters": {name: headers.parameter(name) for name in headers.REQUEST},
            "headers": headers.RESPONSE,
            "securitySchemes": {"key": _KEY},
        },
    }


def _components(known: Sequence[OperationRoute]) -> Components:
    operations = [route.operation for route in known]
    specs = [spec for operation in operations for spec in operation.responses.values()]
    responses = [spec.body for spec in specs if spec.body is not None]
    return Components(
        queries=[operation.query for operation in operations if operation.query is not None],
        read=[operation.body for operation in operations if operation.body is not None],
        written=[*responses, schemas.Problem, *webhooks.models()],
    )
