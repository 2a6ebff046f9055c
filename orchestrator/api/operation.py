"""What a handler takes and answers, declared where it stands.

Calls are checked by it, and `openapi` writes the document from it: neither can say what the other does not.
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

#: `(call)`, `(call, query)`, `(call, body)` or `(call, query, body)`, of a method too.
Handling = Callable[..., Awaitable[Response]]

JSON = "application/json"
FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """One kind of answer: its body (None: it has none), and the headers it may carry besides those of all answers."""

    body: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    media: str = JSON
    says: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as the document tells of it."""

    summary: str
    about: str
    #: By status, or `2XX`.
    answers: Mapping[int | str, ResponseSpec]
    #: Codes of problems, besides those that follow from the rest.
    refuses: tuple[str, ...]
    #: Request headers that mean something here.
    takes: tuple[str, ...]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    media: str
    #: What is not meant for us in the query is let pass.
    lenient: bool

    @property
    def may_be_empty(self) -> bool:
        """True if the body may be left out: then each of its fields may."""
        return self.body is not None and not any(
            one.is_required() for one in self.body.model_fields.values()
        )


def answer(
    body: type[BaseModel] | None, *headers: str, media: str = JSON, says: str = ""
) -> ResponseSpec:
    """Return a kind of answer, for `operation`."""
    return ResponseSpec(body, headers, media, says)


def operation(
    summary: str,
    *,
    answers: Mapping[int | str, ResponseSpec | type[BaseModel] | None],
    refuses: tuple[str, ...] = (),
    takes: tuple[str, ...] = (),
    body: type[BaseModel] | None = None,
    media: str = JSON,
    lenient: bool = False,
) -> Callable[[Handling], Handling]:
    """Declare a handler; its docstring is what callers read about it.

    Parameters called `query` and `body` are read from the request and validated as what they are annotated with, the
    query first. `body` here is for a handler that reads it by itself. `lenient` lets any query pass: probes and
    browsers add things of their own.
    """

    def declare(handler: Handling) -> Handling:
        hints = get_type_hints(handler)
        asked, read = hints.get("query"), hints.get("body")
        said = {
            status: one if isinstance(one, ResponseSpec) else ResponseSpec(one)
            for status, one in answers.items()
        }
        about = " ".join((handler.__doc__ or "").split())
        known = Operation(summary, about, said, refuses, takes, asked, read or body, media, lenient)
        checked = (
            _asking(handler, asked, lenient)
            if read is None
            else _reading(handler, asked, read, known.may_be_empty)
        )
        handle = wraps(handler)(checked)
        vars(handle)["operation"] = known
        return handle

    return declare


def declared(handler: Handling) -> Operation | None:
    """Return what a handler was declared to be."""
    known = getattr(handler, "operation", None)
    return known if isinstance(known, Operation) else None


def _asking(handler: Handling, asked: type[BaseModel] | None, lenient: bool) -> Handling:
    """Return the handler of a call whose body, if it has one, is not read here."""

    def handle(*given: Any) -> Awaitable[Response]:
        return handler(*given, **_query(given[-1], asked, lenient))

    return handle


def _reading(
    handler: Handling, asked: type[BaseModel] | None, read: type[BaseModel], optional: bool
) -> Handling:
    """Return the handler of a call with a body."""

    async def handle(*given: Any) -> Response:
        call: RequestContext = given[-1]
        query = _query(call, asked, False)
        return await handler(*given, body=await call.body(read, optional=optional), **query)

    return handle


def _query(
    call: RequestContext, asked: type[BaseModel] | None, lenient: bool
) -> dict[str, BaseModel]:
    """Return what a handler is given of the query. Raises a 422 `Problem`."""
    if asked is not None:
        return {"query": call.query(asked)}
    if not lenient and call.request.scope["query_string"]:
        call.query(Query)
    return {}
