"""The Python client as commands use it: answers as models, every error as a `Failure`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from orchestrator import __version__
from orchestrator.cli.access import Access
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import one_line
from orchestrator.client import (
    Answer,
    ApiError,
    ClientError,
    NotOurs,
    RateLimited,
    Unavailable,
    Unreachable,
    way,
)
from orchestrator.client import Client as PythonClient
from orchestrator.foundation.errors import ConfigError
from orchestrator.schemas import Page

ModelT = TypeVar("ModelT", bound=BaseModel)
RowT = TypeVar("RowT", bound=BaseModel)

#: Seconds an answer may be silent, beyond the hold that was asked for.
_TIMEOUT = 15.0
#: Attempts at a request that costs money while answers are lost, and the longest pause (s).
_TRIES, _SOON = 3, 5.0
#: Longest pause before a server is asked again (s), whatever its Retry-After.
_LONGEST = 60.0
#: Short pages that are read on from, at most; then the caller gets a cursor.
_READ_ON = 100
_LISTED = ("jobs", "events", "subscribers", "deliveries", "accounts", "keys")
_CODES = {401: Exit.AUTH, 403: Exit.AUTH, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT, 422: Exit.USAGE}


class Client:
    """Calls one server, once per call: a command that can wait retries itself, with a notice."""

    def __init__(self, access: Access) -> None:
        def authorized(request: httpx.Request) -> httpx.Request:
            if access.bearer is not None:
                request.headers["authorization"] = f"Bearer {access.bearer()}"
            return request

        self._http = httpx.Client(auth=authorized, **way(access.server))
        agent = f"orchestrator-cli/{__version__}"
        try:
            self._client = PythonClient(
                access.server, timeout=_TIMEOUT, retries=0, http=self._http, user_agent=agent
            )
        except ConfigError as error:
            raise Failure(
                str(error), hint="--server or ORCHESTRATOR_SERVER names it", code=Exit.USAGE
            ) from error
        #: The server's URL, without a password.
        self.server = self._client.server

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, model: type[ModelT], path: str, /, **query: object) -> ModelT:
        """Return the answer to a GET; query parameters that are None are left out."""
        return self.read(model, self.send("GET", path, query=query).document)

    def full_page(
        self,
        model: type[Page[RowT]],
        path: str,
        /,
        *,
        limit: int,
        oldest: str = "",
        **query: object,
    ) -> Page[RowT]:
        """Return a page of `limit` rows, unless the list ends: several filters make short pages.

        The list ends at the id `oldest`.
        """
        page = self.get(model, path, **query, limit=limit)
        rows = list(page.data)
        for _ in range(_READ_ON):
            if len(rows) >= limit or not page.has_more or str(page.next_cursor) < oldest:
                break
            query["after"] = page.next_cursor
            page = self.get(model, path, **query, limit=limit - len(rows))
            rows += page.data
        kept = [row for row in rows if not oldest or getattr(row, "id", "") >= oldest]
        update: dict[str, object] = {"data": kept}
        if len(kept) < len(rows) or (page.has_more and str(page.next_cursor) < oldest):
            update |= {"has_more": False, "next_cursor": None}
        return page.model_copy(update=update)

    def post(self, model: type[ModelT], path: str, body: object = None) -> ModelT:
        """Return the answer to a POST."""
        return self.read(model, self.send("POST", path, body=body).document)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the server's answer, not yet read. Raises `Failure`."""
        try:
            return self._client.call(
                method, path, json=body, query=query or {}, headers=headers or {}
            )
        except ClientError as error:
            raise failure(error, self.server, path) from error
        except ValueError as error:
            # Of the encoder, before anything is sent.
            raise Failure(
                "what was given cannot be sent: a number is not finite, or a text is not UTF-8",
                code=Exit.USAGE,
            ) from error

    def read(self, model: type[ModelT], document: object) -> ModelT:
        """Return a document as a model. Raises `Failure` if it does not fit."""
        try:
            return model.model_validate(_encodable(document))
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False)[:3]
            where = ", ".join(".".join(map(str, fault["loc"])) for fault in faults)
            message = f"{self.server} answered with something else than {model.__name__}"
            wrong = NotOurs(f"{message}: see {where or 'all of it'}")
            raise failure(wrong, self.server) from error

    def order(
        self, model: type[ModelT], path: str, key: str, again: str, body: object = None
    ) -> ModelT:
        """Return what a request created. The idempotency key lets it be sent again.

        Raises `Failure`, with the hint `again` if that may exist all the same.
        """
        for left in range(_TRIES - 1, -1, -1):
            try:
                answer = self.send("POST", path, body=body, headers={"idempotency-key": key})
                return self.read(model, answer.document)
            except KeyboardInterrupt:
                raise Failure(
                    "stopped; it may have been received", hint=again, code=Exit.INTERRUPTED
                ) from None
            except Failure as failure:
                if left and failure.later is not None and failure.later <= _SOON:
                    time.sleep(failure.later)
                    continue
                if _may_have_arrived(failure):
                    failure.hint = f"it may have been received all the same: {again}"
                raise
        raise AssertionError("the last attempt returns or raises")


def _may_have_arrived(failure: Failure) -> bool:
    """True if the request that failed may have been carried out."""
    match failure.__cause__:
        case Unreachable() as lost:
            return lost.sent
        case ApiError() as refused:
            # Our own 503 means that nothing was done; a proxy's answer leaves that open.
            return (
                refused.status >= httpx.codes.INTERNAL_SERVER_ERROR
                and refused.code != "unavailable"
            )
        case _:
            return False


def _encodable(value: Any) -> Any:
    """Return JSON whose texts can be printed and sent: half a surrogate pair is replaced."""
    match value:
        case dict():
            return {name: _encodable(below) for name, below in value.items()}
        case list():
            return [_encodable(below) for below in value]
        case str() if not value.isascii():
            return value.encode("utf-8", "replace").decode()
        case _:
            return value


def failure(error: ClientError, server: str, path: str = "") -> Failure:
    """Return an error of the Python client as a `Failure`: exit code and next step."""
    match error:
        case ApiError():
            return _refusal(error, server, path)
        case Unreachable():
            cause = error.__cause__
            why = (str(cause) or type(cause).__name__) if cause else "its answer was cut off"
            return Failure(
                f"{server} cannot be reached: {why}",
                hint="is `orchestrator serve` running there?"
                " --server or ORCHESTRATOR_SERVER names another",
                code=Exit.UNREACHABLE,
                later=0.0,
            )
        case NotOurs():
            return Failure(
                error.message, hint="is this the right --server, or a proxy in front of it?"
            )
        case _:
            return Failure(error.message, hint=error.hint)


def _refusal(error: ApiError, server: str, path: str) -> Failure:
    code = Exit.CONFLICT if "idempotency" in error.code else _CODES.get(error.status, Exit.ERROR)
    faults = [f"{fault.pointer}: {fault.message}" for fault in error.errors]
    # A detail that is the first fault is printed once, with its pointer.
    detail = faults[0] if faults and error.detail == error.errors[0].message else error.detail
    # The status of a proxy may be all there is.
    status = "" if error.code else f" ({error.status})"
    first = f"{error.title or 'the server refused'}{status}"
    message = first + (f": {detail}" if detail else "")
    more = [fault for fault in faults if fault not in message]
    passing = (
        isinstance(error, (RateLimited, Unavailable))
        or error.status >= httpx.codes.INTERNAL_SERVER_ERROR
    )
    later = min(_LONGEST, error.retry_after or 0.0) if passing else None
    hint = _hint(error, code, server, path)
    return Failure(message, *more, hint=hint, code=code, document=error.document, later=later)


def _hint(error: ApiError, code: Exit, server: str, path: str) -> str:
    """Return what to do about a refusal."""
    if job_id := (error.document or {}).get("job_id"):
        return f"see: orchestrator jobs show {one_line(job_id)}"
    if error.status == httpx.codes.FORBIDDEN:
        return (
            f"{server} requires a key of wider scope: read < write < admin"
            " (`orchestrator keys create --scope`);\n"
            "  where that server's orchestrator.toml is, no key is needed:"
            " unset ORCHESTRATOR_API_KEY"
        )
    if code is Exit.AUTH:
        return (
            f"{server} requires a key of its own: --api-key or ORCHESTRATOR_API_KEY"
            " (`orchestrator keys create` makes one);\n"
            "  or run it where that server's orchestrator.toml is, or give --config: a key or pass"
            " made from settings\n"
            "  goes only to the host and port of the same settings"
        )
    if code is Exit.NOT_FOUND:
        group = path.removeprefix("/v1/").partition("/")[0]
        return f"`orchestrator {group} ls` shows what there is" if group in _LISTED else ""
    request = f"request {error.request_id}" if error.request_id else ""
    if path == "/v1/jobs" and any(fault.pointer == "/model" for fault in error.errors):
        hint = "--model takes the vendor's own name of one, such as kling-v3: docs/vendors.md"
        return f"{hint}\n  {request}".rstrip()
    return request
