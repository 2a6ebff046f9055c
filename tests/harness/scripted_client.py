"""The Python client in tests: both clients behind one awaitable interface, scripted transports."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchestrator.client import AsyncClient, AsyncPages, Client, Pages
from orchestrator.client.connection import Connection, Target
from orchestrator.client.errors import Unreachable
from orchestrator.client.requests import Request
from orchestrator.client.retries import Retries
from orchestrator.client.sync_async import Resource
from tests.harness.api_caller import KEY

ClientClass = type[Client] | type[AsyncClient]
CLIENTS: tuple[ClientClass, ...] = (Client, AsyncClient)


class Awaitable:
    """Either client, called with `await`: `Client` blocks in a thread. Reads lists completely."""

    def __init__(self, target: Any, client_class: type[Any]) -> None:
        self._target = target
        self.client_class = client_class

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if isinstance(found, Resource):
            return Awaitable(found, self.client_class)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(found):
                return await found(*args, **kwargs)
            result = await asyncio.to_thread(found, *args, **kwargs)
            if isinstance(result, AsyncPages):
                return [item async for item in result]
            return await asyncio.to_thread(list, result) if isinstance(result, Pages) else result

        return call


@contextlib.asynccontextmanager
async def open_client(
    client_class: ClientClass, url: str, key: str = KEY, **options: Any
) -> AsyncIterator[Any]:
    """Yield a client of that class, to be awaited."""
    client = Awaitable(client_class(url, key, **options), client_class)
    try:
        yield client
    finally:
        await client.close()


async def each_client(url: str, **options: Any) -> AsyncIterator[Any]:
    """Yield a `Client`, then an `AsyncClient`."""
    for client_class in CLIENTS:
        async with open_client(client_class, url, **options) as client:
            yield client


@dataclass
class Response:
    """A scripted response: its body in chunks. A chunk that is an error is raised."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Sequence[bytes | Exception] = ()


def json_response(document: Any, status: int = 200, **headers: str) -> Response:
    """Return a JSON response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, [json.dumps(document).encode()])


def lost(sent: bool = True) -> Unreachable:
    """Return the error of a lost connection."""
    return Unreachable("lost", sent=sent)


class _OpenResponse:
    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.headers = httpx.Headers(response.headers)
        self._chunks = iter(response.chunks)
        self.is_closed = False

    async def read(self) -> bytes:
        chunk = next(self._chunks, b"")
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def close(self) -> None:
        self.is_closed = True
        self._chunks = iter(())


@dataclass
class ScriptedTransport:
    """A transport without sockets, in virtual time.

    It responds from a list, and repeats the last response.
    """

    responses: list[Response | Exception | Callable[[Request], Response]]
    #: Seconds that every response takes.
    takes: float = 0.0
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    opened: list[_OpenResponse] = field(default_factory=list)
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def open(self, request: Request, timeouts: httpx.Timeout) -> _OpenResponse:
        self.requests.append(request)
        self.now += self.takes
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, Exception):
            raise response
        response = response if isinstance(response, Response) else response(request)
        self.opened.append(_OpenResponse(response))
        return self.opened[-1]

    async def close(self) -> None:
        self.responses = []


def scripted(
    *responses: Response | Exception | Callable[[Request], Response],
    retries: int = 2,
    takes: float = 0.0,
) -> Connection:
    """Return a connection over a `ScriptedTransport`."""
    transport = ScriptedTransport([*responses], takes)
    target = Target("http://there", None, "test")
    return Connection(transport, target, 30.0, Retries(retries, rng=random.Random(1)))


def script(connection: Connection) -> ScriptedTransport:
    """Return the transport of a scripted connection."""
    assert isinstance(connection.transport, ScriptedTransport)
    return connection.transport


def job_document(**changed: Any) -> dict[str, Any]:
    """Return a job as in the API."""
    at = "2026-11-20T10:00:00.000Z"
    return {
        "id": "job_01m7x4j0w3ezda66h7er4hydnh", "object": "job", "status": "processing",
        "account": "main", "vendor": "kling", "model": "m", "capability": "text2video",
        "external_task_id": "x", "vendor_task_id": None, "vendor_status": None, "progress": None,
        "input": {}, "output": None, "error": None, "metadata": {}, "resolved_by": None,
        "retry_of": None, "version": 1, "created_at": at, "submitted_at": at, "finished_at": None,
        "deadline_at": at, "next_poll_at": None,
        "links": {"self": "s", "timeline": "t", "events": "e"},
    } | changed  # fmt: skip
