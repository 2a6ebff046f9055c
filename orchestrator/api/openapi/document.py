"""`GET /openapi.json`: what there is to call, made of the very routes, declarations and models that serve the calls."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from starlette.responses import Response
from starlette.routing import Route

from orchestrator import __version__
from orchestrator import schemas as shapes
from orchestrator.api.docs import NOT_CHANGED, etag, fixed
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.openapi import headers, operations, webhooks
from orchestrator.api.openapi.components import Json, Schemas
from orchestrator.api.openapi.operations import OperationRoute
from orchestrator.api.operation import answer, operation
from orchestrator.api.problems import CODES
from orchestrator.foundation.json_codec import encode

_ABOUT = """\
Owns video-generation jobs: submits them to vendors with a callback, believes signed pushes, asks only about what stays
silent, and tells subscribers exactly once that a job is done.

* **Errors** are RFC 9457 `application/problem+json`. `code` says what to do, `type` leads to a page about it.
* **Lists** are newest first, unless said otherwise. Send `next_cursor` as `after` for the next part.
* **Waiting**: `Prefer: wait=N`, `GET /v1/events/stream`, or a subscriber that is sent webhooks.
* **Fields** are only ever added: ignore those you do not know. What you send may hold no unknown ones.
"""
_TAGS = {
    "jobs": "Work that vendors are asked to do.",
    "files": "Files that vendors are given beforehand.",
    "events": "The log of what happened.",
    "subscribers": "Who is told.",
    "replays": "Deliveries made due again.",
    "deliveries": "What is owed to whom, and how it went.",
    "accounts": "Configured vendors, and how they are doing.",
    "signing-key": "What verifies deliveries to a job's own `callback_url`.",
    "keys": "The callers' keys. For admins.",
    "service": "The service itself. No key.",
    "vendors": "Where vendors push. No key: the address is the secret.",
    "webhooks": "What subscribers are sent, signed as https://www.standardwebhooks.com says.",
}
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "orc_...",
    "description": "A key and its scope: `read`, `write` or `admin`, each including the ones before it.",
}


class Document:
    """The document of a service, written when somebody asks for it first: that takes a while, so on another thread."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._routes: Sequence[Route] = ()
        self._turn = asyncio.Lock()
        self._written: tuple[bytes, str] | None = None

    def tells_of(self, routes: Iterable[Route]) -> None:
        """Describe these."""
        self._routes = tuple(routes)

    @operation(
        "Get the API document",
        answers={200: answer(shapes.OpenApi, "ETag"), 304: NOT_CHANGED},
        lenient=True,
    )
    async def show(self, call: RequestContext) -> Response:
        """OpenAPI 3.1."""
        async with self._turn:
            if self._written is None:
                self._written = await asyncio.to_thread(self._write)
        return fixed(call, *self._written, "application/json")

    def _write(self) -> tuple[bytes, str]:
        content = encode(document(self._routes, self._base))
        return content, etag(content)


def document(routes: Iterable[Route], base: str) -> Json:
    """Return the OpenAPI 3.1 document of a service at `base`."""
    told = list(operations.places(routes))
    schemas = _schemas(told)
    events = webhooks.events(schemas)
    calls: dict[str, Json] = defaultdict(dict)
    for place in told:
        calls[place.path][place.method.lower()] = operations.described(place, schemas)
    calls["/v1/events/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"] = (
        webhooks.stream()
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "orchestrator", "version": __version__, "description": _ABOUT},
        "servers": [{"url": base}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": {**calls, "/callbacks/{account}/{token}": {"post": webhooks.door(schemas)}},
        "webhooks": webhooks.webhooks(),
        "components": {
            "schemas": dict(sorted({**schemas.components, **events}.items())),
            "responses": {code: operations.refusal([code]) for code in CODES},
            "parameters": {name: headers.parameter(name) for name in headers.SENT},
            "headers": headers.ANSWERED,
            "securitySchemes": {"key": _KEY},
        },
    }


def _schemas(told: Sequence[OperationRoute]) -> Schemas:
    known = [place.operation for place in told]
    answered = [
        one.body
        for operation in known
        for one in operation.answers.values()
        if one.body is not None
    ]
    return Schemas(
        queries=[one.query for one in known if one.query is not None],
        read=[one.body for one in known if one.body is not None],
        written=[*answered, shapes.Problem, *webhooks.models()],
    )
