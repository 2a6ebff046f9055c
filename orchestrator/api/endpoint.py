"""One path of the API: who may call it, how, and what every refusal looks like. Handlers see only good calls."""

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
from orchestrator.api.auth.authenticator import Authenticator, Caller, told
from orchestrator.api.problems import Refusal
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import NotFound, Problem, Unavailable
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.logs import traceback_of

log = structlog.get_logger()
ModelT = TypeVar("ModelT", bound=BaseModel)
ThingT = TypeVar("ThingT")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOBODY = Caller("nobody", Scope.READ)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request that was let in."""

    runtime: Runtime
    request: Request
    caller: Caller
    gate: Authenticator

    def id(self, prefix: str) -> str:
        """Return the id in the path. Raises `NotFound` for what cannot be one of ours."""
        said = str(self.request.path_params["id"])
        if not is_id(said, prefix):
            raise NotFound(f"no such {_NOUNS[prefix]}")
        return said

    def query(self, model: type[ModelT]) -> ModelT:
        """Return the query parameters. Raises a 422 `Problem`, also for one that is unknown or given twice."""
        said: dict[str, str] = {}
        for name, value in self.request.query_params.multi_items():
            if name in said:
                raise problems.fault(f"/{name[:64]}", "duplicate", "Given more than once")
            if not (request_body.is_storable(name) and request_body.is_storable(value)):
                raise problems.fault("", "string_unstorable", "Text may not hold NUL")
            said[name] = value
        return request_body.validated(model, said)

    async def body(self, model: type[ModelT], *, optional: bool = False) -> ModelT:
        """Return the JSON body. Raises `Problem` 400, 413, 415 or 422."""
        return request_body.validated(
            model, await request_body.json_of(self.request, optional=optional)
        )


_NOUNS = {
    "job": "job",
    "evt": "event",
    "sub": "subscriber",
    "dlv": "delivery",
    "key": "key",
    "rpl": "replay",
}

Handler = Callable[[RequestContext], Awaitable[Response]]


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(encode(value), status, headers, media_type="application/json")


def found(thing: ThingT | None, noun: str) -> ThingT:
    """Return `thing`. Raises `NotFound` if there is none."""
    if thing is None:
        raise NotFound(f"no such {noun}")
    return thing


class Endpoint:
    """An ASGI application for one path. `needs` is the scope of calls that change something; None: no key at all."""

    def __init__(
        self,
        runtime: Runtime,
        gate: Authenticator,
        handlers: Mapping[str, Handler],
        *,
        reads: Scope | None = Scope.READ,
        changes: Scope = Scope.WRITE,
    ) -> None:
        self._runtime = runtime
        self._gate = gate
        self.handlers = handlers
        self._reads = reads
        self._changes = changes

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, and say which request it was."""
        request = Request(scope, receive)
        said = request.headers.get("x-request-id", "")
        request_id = (
            said if _REQUEST_ID.fullmatch(said) else f"req_{self._runtime.rng.getrandbits(96):024x}"
        )
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                response = await self._answer(request, request_id)
            except ClientDisconnect:
                log.info("the caller left before its request was whole")
                return
        response.headers["x-request-id"] = request_id
        response.headers.update(told(request))
        if request.method == "HEAD":
            # The headers stay those of a GET, Content-Length too.
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request, request_id: str) -> Response:
        try:
            return await self._served(request)
        except Problem as problem:
            return problems.answer(problem, self._runtime.base, request_id, self._hints(problem))
        except Unavailable as error:
            log.warning("a call could not be served", error=str(error))
            why = Refusal(
                "try again later", status=503, code="unavailable", title="Temporarily unavailable"
            )
            wait = {"retry-after": str(error.retry_after)}
            return problems.answer(why, self._runtime.base, request_id, wait)
        except ClientDisconnect:
            raise
        except Exception as error:
            log.error(
                "a call failed",
                method=request.method,
                path=request.url.path,
                exception=traceback_of(error),
            )
            why = Refusal(
                "a fault of ours", status=500, code="internal_error", title="Internal error"
            )
            return problems.answer(why, self._runtime.base, request_id)

    async def _served(self, request: Request) -> Response:
        caller = _NOBODY if self._reads is None else await self._gate.admit(request)
        if not self.handlers:
            raise NotFound(f"no such path; {self._runtime.base}/docs tells which there are")
        method = "GET" if request.method == "HEAD" else request.method
        handler = self.handlers.get(method)
        if handler is None:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            raise Refusal(
                "not with this method",
                status=status,
                code="method_not_allowed",
                title=status.phrase,
            )
        needed = self.needs(method) or Scope.READ
        if not caller.scope.covers(needed):
            why = f"this needs a key with the scope {needed}"
            raise Refusal(
                why, status=403, code="insufficient_scope", title="Not allowed with this key"
            )
        return await handler(RequestContext(self._runtime, request, caller, self._gate))

    def needs(self, method: str) -> Scope | None:
        """Return the scope that a method takes; None: not even a key."""
        return self._reads if method == "GET" or self._reads is None else self._changes

    def _hints(self, problem: Problem) -> dict[str, str]:
        """Return the headers that belong to a status code."""
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            methods = {*self.handlers, "HEAD"} if "GET" in self.handlers else set(self.handlers)
            return {"allow": ", ".join(sorted(methods))}
        return {"www-authenticate": "Bearer"} if problem.status == HTTPStatus.UNAUTHORIZED else {}
