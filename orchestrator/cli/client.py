"""The Python client, as commands use it: documents as the server sent them, and a `Failure` where it is refused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from orchestrator import __version__
from orchestrator.cli.access import Access
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record
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

#: Seconds for which an answer may be silent, beyond what it was asked to be held. Less than an operator's patience.
_TIMEOUT = 15.0
#: How often work that costs money is asked for while answers are lost, and the seconds waited in between at most.
_TRIES, _SOON = 3, 5.0
#: Seconds that a server is left alone at most before it is asked again, whatever it asks for.
_LONGEST = 60.0
#: Short pages that are read on from, at most: then there is a cursor for whoever wants to go on.
_READ_ON = 100
_LISTED = ("jobs", "events", "subscribers", "deliveries", "accounts", "keys")
_CODES = {401: Exit.AUTH, 403: Exit.AUTH, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT}


class Client:
    """Calls one server. What fails is said at once: commands that can wait try again themselves, and say so."""

    def __init__(self, access: Access) -> None:
        def admitted(request: httpx.Request) -> httpx.Request:
            if access.bearer is not None:
                request.headers["authorization"] = f"Bearer {access.bearer()}"
            return request

        self._http = httpx.Client(auth=admitted, **way(access.server))
        agent = f"orchestrator-cli/{__version__}"
        try:
            self._client = PythonClient(
                access.server, timeout=_TIMEOUT, retries=0, http=self._http, user_agent=agent
            )
        except ConfigError as error:
            raise Failure(
                str(error), hint="--server or ORCHESTRATOR_SERVER names it", code=Exit.USAGE
            ) from error
        #: Its URL, without a password that may stand in it.
        self.server = self._client.server

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: object) -> Any:
        """Return a document; parameters that are None are left out. Raises `Failure`."""
        return self.call("GET", path, query=query).document

    def page(self, path: str, *, limit: int, oldest: str = "", **query: object) -> Record:
        """Return a page of a list as one that is full, unless there is no more: several filters make short ones.

        It ends at an id, the `oldest` that is wanted. Raises `Failure`.
        """
        page: Record = self.get(path, **query, limit=limit)
        for _ in range(_READ_ON):
            if (
                len(page["data"]) >= limit
                or not page["has_more"]
                or str(page["next_cursor"]) < oldest
            ):
                break
            rest = self.get(
                path, **query | {"after": page["next_cursor"]}, limit=limit - len(page["data"])
            )
            page = {**rest, "data": [*page["data"], *rest["data"]]}
        kept = [one for one in page["data"] if not oldest or one["id"] >= oldest]
        if len(kept) < len(page["data"]) or (
            page["has_more"] and str(page["next_cursor"]) < oldest
        ):
            page = {**page, "data": kept, "has_more": False, "next_cursor": None}
        return page

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the server's answer. Raises `Failure` if it refuses, cannot be reached, or is none of ours."""
        try:
            answer = self._client.call(
                method, path, json=body, query=query or {}, headers=headers or {}
            )
            return replace(answer, document=_checked(answer, self.server))
        except ClientError as error:
            raise failure(error, self.server, path) from error

    def order(self, path: str, key: str, again: str, body: object = None) -> Answer:
        """Ask for work that costs money. The key makes it the same work, so an answer that is lost is asked for again.

        Raises `Failure`; where the work may have begun all the same, `again` is the hint.
        """
        for left in range(_TRIES - 1, -1, -1):
            try:
                return self.call("POST", path, body=body, headers={"idempotency-key": key})
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
        raise AssertionError("the last try returns or raises")


def _may_have_arrived(failure: Failure) -> bool:
    """True if the request that failed may have been done all the same."""
    match failure.__cause__:
        case Unreachable() as lost:
            return lost.sent
        case ApiError() as refused:
            # Our own 503 says that nothing was done; a proxy's words say nothing about that.
            return (
                refused.status >= httpx.codes.INTERNAL_SERVER_ERROR
                and refused.code != "unavailable"
            )
        case _:
            return False


class _Said(dict[str, Any]):
    """An object of an answer. What it lacks is the server's fault, and is said so."""

    __slots__ = ("server",)

    def __init__(self, fields: Mapping[str, Any], server: str) -> None:
        super().__init__(fields)
        self.server = server

    def __missing__(self, name: str) -> Any:
        raise failure(NotOurs(f"{self.server} left {name!r} out of its answer"), self.server)


def _checked(answer: Answer, server: str) -> Any:
    """Return an answer's document as far as it can be told that it is ours. Raises `NotOurs`."""
    document = answer.document
    if answer.status in (204, 304) and document is None:
        return None
    rows = document.get("data") if isinstance(document, dict) and "has_more" in document else []
    if (
        not isinstance(document, dict)
        or not isinstance(rows, list)
        or not all(isinstance(row, dict) for row in rows)
    ):
        raise NotOurs(f"{server} answered {answer.status} with JSON that is none of ours")
    return _said(document, server)


def _said(value: Any, server: str) -> Any:
    match value:
        case dict():
            return _Said({name: _said(below, server) for name, below in value.items()}, server)
        case list():
            return [_said(below, server) for below in value]
        case str() if not value.isascii():
            # Half of a surrogate pair is JSON, but no text that could be printed or sent.
            return value.encode("utf-8", "replace").decode()
        case _:
            return value


def failure(error: ClientError, server: str, path: str = "") -> Failure:
    """Return what an error of the Python client is to a command: with its exit code, and what to do next."""
    match error:
        case ApiError():
            return _refusal(error, server, path)
        case Unreachable():
            why = error.__cause__
            words = (str(why) or type(why).__name__) if why else "its answer did not come to an end"
            return Failure(
                f"{server} cannot be reached: {words}",
                hint="is `orchestrator serve` running there? --server or ORCHESTRATOR_SERVER names another",
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
    # Where the detail is the first fault, it is said once, and with its place.
    detail = faults[0] if faults and error.detail == error.errors[0].message else error.detail
    lines = [
        f"{error.title or 'the server refused'} ({error.status})"
        + (f": {detail}" if detail else "")
    ]
    lines += [f"  {fault}" for fault in faults if fault not in lines[0]]
    passes = (
        isinstance(error, (RateLimited, Unavailable))
        or error.status >= httpx.codes.INTERNAL_SERVER_ERROR
    )
    later = min(_LONGEST, error.retry_after or 0.0) if passes else None
    hint = _hint(error, code, server, path)
    return Failure("\n".join(lines), hint=hint, code=code, document=error.document, later=later)


def _hint(error: ApiError, code: Exit, server: str, path: str) -> str:
    """Return what to do about a refusal."""
    if job_id := (error.document or {}).get("job_id"):
        return f"see: orchestrator jobs show {job_id}"
    if error.status == httpx.codes.FORBIDDEN:
        return (
            f"{server} wants a key of wider scope: read < write < admin (`orchestrator keys create --scope`);\n"
            "  where that server's orchestrator.toml is, no key is needed: unset ORCHESTRATOR_API_KEY"
        )
    if code is Exit.AUTH:
        return (
            f"{server} wants a key of its own: --api-key or ORCHESTRATOR_API_KEY (`orchestrator keys create` makes one)"
            ";\n  or run it where that server's orchestrator.toml is, or give --config"
        )
    if code is Exit.NOT_FOUND:
        group = path.removeprefix("/v1/").partition("/")[0]
        return f"`orchestrator {group} ls` shows what there is" if group in _LISTED else ""
    request = f"request {error.request_id}" if error.request_id else ""
    if path == "/v1/jobs" and any(fault.pointer == "/model" for fault in error.errors):
        return f"--model takes the vendor's own name of one, such as kling-v3: docs/vendors.md\n  {request}".rstrip()
    return request
