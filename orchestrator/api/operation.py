"""Declarations of operations: what a handler takes and returns.

Requests are validated by the declaration, and the OpenAPI document is written from it, so that the
two agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, get_type_hints

from pydantic import BaseModel
from starlette.responses import Response

from orchestrator.api.endpoint import RequestContext
from orchestrator.api.pagination import Query

#: `(context)`, `(context, query)`, `(context, body)` or `(context, query, body)`; also a method.
HandlerFunction = Callable[..., Awaitable[Response]]

JSON = "application/json"
FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """One response: its body (None: empty), and its headers, without those of every response."""

    body: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    media_type: str = JSON
    description: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as the document describes it."""

    summary: str
    description: str
    #: By status, or `2XX`.
    responses: Mapping[int | str, ResponseSpec]
    #: Codes of problems, without those that follow from the other fields.
    problems: tuple[str, ...]
    #: Request headers that the operation reads.
    request_headers: tuple[str, ...]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    media_type: str
    #: True if unknown query parameters are ignored.
    lenient: bool

    @property
    def body_is_optional(self) -> bool:
        """True if the body may be absent: none of its fields is required."""
        return self.body is not None and not any(
            field.is_required() for field in self.body.model_fields.values()
        )


def returns(
    body: type[BaseModel] | None, *headers: str, media_type: str = JSON, description: str = ""
) -> ResponseSpec:
    """Return the specification of a response, for `operation`."""
    return ResponseSpec(body, headers, media_type, description)


def operation(
    summary: str,
    *,
    responses: Mapping[int | str, ResponseSpec | type[BaseModel] | None],
    problems: tuple[str, ...] = (),
    request_headers: tuple[str, ...] = (),
    body: type[BaseModel] | None = None,
    media_type: str = JSON,
    lenient: bool = False,
) -> Callable[[HandlerFunction], HandlerFunction]:
    """Declare a handler; its docstring is the description in the document.

    Parameters named `query` and `body` are read from the request and validated as the models they
    are annotated with, the query first. `body` here is for a handler that reads the body itself.
    `lenient` ignores unknown query parameters: probes and browsers add their own.
    """

    def declare(handler: HandlerFunction) -> HandlerFunction:
        hints = get_type_hints(handler)
        query, parsed = hints.get("query"), hints.get("body")
        text = " ".join((handler.__doc__ or "").split())
        specs = {
            status: spec if isinstance(spec, ResponseSpec) else ResponseSpec(spec)
            for status, spec in responses.items()
        }
        known = Operation(
            summary, text, specs, problems, request_headers, query, parsed or body, media_type,
            lenient,
        )  # fmt: skip
        inner = handler if parsed is None else _with_body(handler, parsed, known.body_is_optional)
        wrapped = wraps(handler)(_with_query(inner, query, lenient))
        vars(wrapped)["operation"] = known
        return wrapped

    return declare


def declared_operation(handler: HandlerFunction) -> Operation | None:
    """Return the declaration of a handler, or None."""
    declared = getattr(handler, "operation", None)
    return declared if isinstance(declared, Operation) else None


def _with_query(
    handler: HandlerFunction, model: type[BaseModel] | None, lenient: bool
) -> HandlerFunction:
    """Return a handler that validates the query. Raises a 422 `Problem`."""

    def handle(*args: Any, **parsed: BaseModel) -> Awaitable[Response]:
        context: RequestContext = args[-1]
        if model is not None:
            parsed["query"] = context.query(model)
        elif not lenient and context.request.scope["query_string"]:
            context.query(Query)
        return handler(*args, **parsed)

    return handle


def _with_body(handler: HandlerFunction, model: type[BaseModel], optional: bool) -> HandlerFunction:
    """Return a handler that validates the body. Raises `Problem` 400, 413, 415 or 422."""

    async def handle(*args: Any, **parsed: BaseModel) -> Response:
        context: RequestContext = args[-1]
        body = await context.body(model, optional=optional)
        return await handler(*args, **parsed, body=body)

    return handle
