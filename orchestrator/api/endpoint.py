"""Endpoints: authenticate a request, dispatch it by method, and render every error as a problem.

Handlers are called only with authorized requests.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from orchestrator.api import problems, request_body
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.auth.authenticator import Authenticator, Caller, rate_limit_headers
from orchestrator.api.problems import Refusal
from orchestrator.api.sending import StreamedResponse, with_room
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import NotFound, Problem, Unavailable
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.logs import traceback_of

log = structlog.get_logger()
ModelT = TypeVar("ModelT", bound=BaseModel)
ThingT = TypeVar("ThingT")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Seconds after which the key of a request is looked at again.
_LATE = 0.5
_ANONYMOUS = Caller("anonymous", Scope.READ)
_NOUNS = {
    "job": "job",
    "evt": "event",
    "sub": "subscriber",
    "dlv": "delivery",
    "key": "key",
    "rpl": "replay",
}


@dataclass(frozen=True, slots=True)
class RequestContext:
    """An authorized request, its caller, and the runtime."""

    runtime: Runtime
    request: Request
    caller: Caller
    authenticator: Authenticator

    def id(self, prefix: str) -> str:
        """Return the id in the path. Raises `NotFound` for text that is no id of that kind."""
        text = str(self.request.path_params["id"])
        if not is_id(text, prefix):
            raise NotFound(f"no such {_NOUNS[prefix]}")
        return text

    def query(self, model: type[ModelT]) -> ModelT:
        """Return the query. Raises a 422 `Problem`, also for unknown or repeated parameters."""
        values: dict[str, str] = {}
        for name, value in self.request.query_params.multi_items():
            if name in values:
                raise problems.invalid_field(f"/{name[:64]}", "duplicate", "Given more than once")
            if not (request_body.is_storable(name) and request_body.is_storable(value)):
                raise problems.invalid_field("", "string_unstorable", "Text may not hold NUL")
            values[name] = value
        return request_body.validate(model, values)

    async def body(self, model: type[ModelT], *, optional: bool = False) -> ModelT:
        """Return the JSON body. Raises `Problem` 400, 413, 415 or 422, and `Unavailable`."""
        request, key = self.request, self.caller.id
        with request_body.admit(self.runtime.bodies, key, request) as slot:
            return await request_body.read_model(request, slot, key, model, optional=optional)


Handler = Callable[[RequestContext], Awaitable[Response]]


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(encode(value), status, headers, media_type="application/json")


def or_not_found(thing: ThingT | None, noun: str) -> ThingT:
    """Return `thing`. Raises `NotFound` for None."""
    if thing is None:
        raise NotFound(f"no such {noun}")
    return thing


@dataclass
class Endpoint:
    """An ASGI application for one path.

    `reads` is the scope that GET needs (None: no key is needed), `changes` that of other methods.
    """

    runtime: Runtime
    authenticator: Authenticator
    handlers: Mapping[str, Handler]
    reads: Scope | None = Scope.READ
    changes: Scope = Scope.WRITE
    #: True if a stream ticket in the query does instead of a key.
    takes_tickets: bool = False

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one request. Every response has an `X-Request-Id`."""
        request = Request(scope, receive)
        sent = request.headers.get("x-request-id", "")
        request_id = (
            sent if _REQUEST_ID.fullmatch(sent) else f"req_{self.runtime.rng.getrandbits(96):024x}"
        )
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = await self._respond(request, request_id)
            except ClientDisconnect:
                log.info("the caller disconnected before its request was complete")
                return
        response.headers["x-request-id"] = request_id
        if self.reads is not None:
            response.headers.setdefault("cache-control", "no-store")
        response.headers.update(rate_limit_headers(request))
        if request.method == "HEAD":
            # The headers stay those of a GET, Content-Length too.
            response.body = b""
        await response(scope, receive, send)

    async def _respond(self, request: Request, request_id: str) -> Response:
        try:
            return await self._dispatch(request)
        except ClientDisconnect:
            raise
        except Problem as error:
            # Its traceback has this frame and those that hold the body: a cycle of up to 32 MiB.
            problem, headers = error.with_traceback(None), self._headers(error)
        except Unavailable as error:
            log.warning("a request could not be served", error=str(error))
            problem = Refusal("unavailable", "try again later")
            headers = {"retry-after": str(error.retry_after)}
        except Exception as error:
            log.error(
                "a request failed",
                method=request.method,
                path=request.url.path,
                exception=traceback_of(error),
            )
            problem = Refusal("internal_error", "a fault of ours")
            headers = {}
        return problems.problem_response(problem, self.runtime.base, request_id, headers)

    async def _dispatch(self, request: Request) -> Response:
        caller = _ANONYMOUS
        if self.takes_tickets and (ticket := request.query_params.get("ticket")):
            caller = await self.authenticator.redeem(request, ticket)
        elif self.reads is not None:
            caller = await self.authenticator.authenticate(request)
        if not self.handlers:
            raise NotFound(f"no such path; {self.runtime.base}/docs lists them")
        method = "GET" if request.method == "HEAD" else request.method
        handler = self.handlers.get(method)
        if handler is None:
            raise Refusal("method_not_allowed", "not with this method")
        needed = self.needs(method) or Scope.READ
        if not caller.scope.covers(needed):
            raise Refusal("insufficient_scope", f"this needs a key with the scope {needed}")
        began = self.runtime.clock.monotonic()
        response = await handler(RequestContext(self.runtime, request, caller, self.authenticator))
        is_late = self.runtime.clock.monotonic() - began > _LATE
        is_read = method == "GET" and self.reads is not None
        # A stream watches its key itself.
        if is_late and is_read and not isinstance(response, StreamedResponse):
            await self.authenticator.confirm(request)
        return response if request.method == "HEAD" else self._with_room(response, caller)

    def _with_room(self, response: Response, caller: Caller) -> Response:
        return with_room(response, self.runtime.responses, caller.id)

    def needs(self, method: str) -> Scope | None:
        """Return the scope that a method needs; None if it needs no key."""
        return self.reads if method == "GET" or self.reads is None else self.changes

    def _headers(self, problem: Problem) -> dict[str, str]:
        """Return the headers that belong to a status."""
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            methods = {*self.handlers, "HEAD"} if "GET" in self.handlers else set(self.handlers)
            return {"allow": ", ".join(sorted(methods))}
        return {"www-authenticate": "Bearer"} if problem.status == HTTPStatus.UNAUTHORIZED else {}
