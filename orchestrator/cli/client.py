"""The server, as the command line knows it: one call, and a `Failure` with the right exit code when it is refused."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from orchestrator import __version__
from orchestrator.cli.failure import Exit, Failure

#: More than any list of ours; a server that says more is not ours.
_CAP = 32 * 2**20
#: A held answer (`Prefer: wait=60`) and some room.
_TIMEOUT = httpx.Timeout(75, connect=5)
_CODES = {401: Exit.AUTH, 403: Exit.AUTH, 404: Exit.NOT_FOUND, 409: Exit.CONFLICT}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `document` is None where there was no body (304)."""

    status: int
    headers: httpx.Headers
    document: Any


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine by name or number."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Client:
    """Calls one server with one key."""

    def __init__(self, server: str, key: str | None) -> None:
        self.server = server.rstrip("/")
        headers = {"user-agent": f"orchestrator-cli/{__version__}"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        # A proxy of the environment cannot reach this machine's loopback.
        self._http = httpx.Client(headers=headers, timeout=_TIMEOUT, trust_env=not is_loopback(server))

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: object) -> Any:
        """Return a document; parameters that are None are left out."""
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
        """Return the server's answer. Raises `Failure` if it refuses or cannot be reached.

        Errors after a request left are raised as `httpx.RequestError` inside the failure's cause.
        """
        params = {name: str(value) for name, value in (query or {}).items() if value is not None}
        try:
            with self._http.stream(
                method, self.server + path, params=params, headers=headers, json=body if body is not None else None
            ) as response:
                answer = Answer(response.status_code, response.headers, _document(response))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Failure(
                f"{self.server} cannot be reached: {error or type(error).__name__}",
                hint="is `orchestrator serve` running there? --server or ORCHESTRATOR_SERVER names another",
                code=Exit.UNREACHABLE,
            ) from error
        if answer.status >= 400:
            raise refusal(answer, self.server)
        return answer


def _document(response: httpx.Response) -> Any:
    raw = bytearray()
    for chunk in response.iter_bytes():
        raw += chunk
        if len(raw) > _CAP:
            raise Failure("the server's answer is larger than any of ours", hint="is this the right --server?")
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError as error:
        raise Failure(
            f"{response.request.url.host} answered {response.status_code} with something that is not JSON",
            hint="is this the right --server, or a proxy in front of it?",
        ) from error


def refusal(answer: Answer, server: str) -> Failure:
    """Return the failure that a server's problem document (RFC 9457) describes."""
    problem = answer.document if isinstance(answer.document, dict) else {}
    code = _CODES.get(answer.status, Exit.ERROR)
    if "idempotency" in str(problem.get("code")):
        code = Exit.CONFLICT
    lines = [f"{problem.get('title') or 'the server refused'} ({answer.status})"]
    if problem.get("detail"):
        lines[0] += f": {problem['detail']}"
    faults = [f"{fault.get('pointer')}: {fault.get('message')}" for fault in problem.get("errors") or []]
    lines += [f"  {fault}" for fault in faults if fault not in lines[0]]
    hints = {
        Exit.AUTH: f"{server} wants a key of its own: --api-key or ORCHESTRATOR_API_KEY (`orchestrator keys create` "
        "makes one);\n  or run it where that server's orchestrator.toml is, or give --config",
        Exit.NOT_FOUND: "`orchestrator jobs ls` shows what there is",
    }
    hint = hints.get(code, f"request {problem['request_id']}" if problem.get("request_id") else "")
    if problem.get("job_id"):
        hint = f"see: orchestrator jobs show {problem['job_id']}"
    return Failure("\n".join(lines), hint=hint, code=code, document=problem or None)
