"""The Python client, as commands use it: documents as the server sent them, and a `Failure` where it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from orchestrator import __version__
from orchestrator.cli.access import Access
from orchestrator.cli.failure import Exit, Failure
from orchestrator.client import (
    Answer,
    ApiError,
    ClientError,
    NotOurs,
    RateLimited,
    Unavailable,
    Unreachable,
    is_loopback,
)
from orchestrator.client import Client as PythonClient

#: Seconds for which an answer may be silent, beyond what it was asked to be held. Less than an operator's patience.
_TIMEOUT = 15.0
_CODES = {401: Exit.AUTH, 403: Exit.AUTH, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT}


class Client:
    """Calls one server. What fails is said at once: commands that can wait try again themselves, and say so."""

    def __init__(self, access: Access) -> None:
        def admitted(request: httpx.Request) -> httpx.Request:
            if access.bearer is not None:
                request.headers["authorization"] = f"Bearer {access.bearer()}"
            return request

        self.server = access.server
        # A proxy of the environment cannot reach this machine's loopback.
        self._http = httpx.Client(auth=admitted, trust_env=not is_loopback(access.server))
        agent = f"orchestrator-cli/{__version__}"
        self._client = PythonClient(access.server, timeout=_TIMEOUT, retries=0, http=self._http, user_agent=agent)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: object) -> Any:
        """Return a document; parameters that are None are left out. Raises `Failure`."""
        return self.call("GET", path, query=query).document

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the server's answer. Raises `Failure` if it refuses or cannot be reached."""
        try:
            return self._client.call(method, path, json=body, query=query or {}, headers=headers or {})
        except ClientError as error:
            raise failure(error, self.server) from error


def failure(error: ClientError, server: str) -> Failure:
    """Return what an error of the Python client is to a command: with its exit code, and what to do next."""
    match error:
        case ApiError():
            return _refusal(error, server)
        case Unreachable():
            why = error.__cause__
            return Failure(
                f"{server} cannot be reached: {str(why) or type(why).__name__}",
                hint="is `orchestrator serve` running there? --server or ORCHESTRATOR_SERVER names another",
                code=Exit.UNREACHABLE,
                later=0.0,
            )
        case NotOurs():
            return Failure(error.message, hint="is this the right --server, or a proxy in front of it?")
        case _:
            return Failure(error.message, hint=error.hint)


def _refusal(error: ApiError, server: str) -> Failure:
    code = Exit.CONFLICT if "idempotency" in error.code else _CODES.get(error.status, Exit.ERROR)
    lines = [f"{error.title or 'the server refused'} ({error.status})" + (f": {error.detail}" if error.detail else "")]
    faults = [f"{fault.pointer}: {fault.message}" for fault in error.errors]
    lines += [f"  {fault}" for fault in faults if fault not in lines[0]]
    later = (error.retry_after or 0.0) if isinstance(error, (RateLimited, Unavailable)) else None
    hint = _hint(error, code, server)
    return Failure("\n".join(lines), hint=hint, code=code, document=error.document, later=later)


def _hint(error: ApiError, code: Exit, server: str) -> str:
    """Return what to do about a refusal."""
    if job_id := (error.document or {}).get("job_id"):
        return f"see: orchestrator jobs show {job_id}"
    if error.status == httpx.codes.FORBIDDEN:
        return f"{server} wants a key of wider scope: read < write < admin (`orchestrator keys create --scope`)"
    if code is Exit.AUTH:
        return (
            f"{server} wants a key of its own: --api-key or ORCHESTRATOR_API_KEY (`orchestrator keys create` makes one)"
            ";\n  or run it where that server's orchestrator.toml is, or give --config"
        )
    if code is Exit.NOT_FOUND:
        return "`orchestrator jobs ls` shows what there is"
    return f"request {error.request_id}" if error.request_id else ""
