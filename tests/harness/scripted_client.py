"""The Python client in tests: both of its faces behind one way of calling, and a world that goes by a script."""

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

FACES: tuple[type[Client] | type[AsyncClient], ...] = (Client, AsyncClient)


class Awaited:
    """Either face, called as if it were awaited: what blocks does so in a thread. Lists are read to their end."""

    def __init__(self, it: Any, face: type[Any]) -> None:
        self._it = it
        self.face = face

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._it, name)
        if isinstance(found, Resource):
            return Awaited(found, self.face)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(found):
                return await found(*args, **kwargs)
            said = await asyncio.to_thread(found, *args, **kwargs)
            if isinstance(said, AsyncPages):
                return [one async for one in said]
            return await asyncio.to_thread(list, said) if isinstance(said, Pages) else said

        return call


@contextlib.asynccontextmanager
async def opened(
    face: type[Client] | type[AsyncClient], url: str, key: str = KEY, **more: Any
) -> AsyncIterator[Any]:
    """Yield a client of that face, to be awaited."""
    client = Awaited(face(url, key, **more), face)
    try:
        yield client
    finally:
        await client.close()


async def both(url: str, **more: Any) -> AsyncIterator[Any]:
    """Yield a client of each face in turn."""
    for face in FACES:
        async with opened(face, url, **more) as client:
            yield client


@dataclass
class Said:
    """An answer: its body in pieces. A piece that is an error is raised."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes | Exception] = ()


def said(document: Any, status: int = 200, **headers: str) -> Said:
    """Return a JSON answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(status, named, [json.dumps(document).encode()])


def lost(sent: bool = True) -> Unreachable:
    """Return what a lost connection is."""
    return Unreachable("lost", sent=sent)


class _Opened:
    def __init__(self, answer: Said) -> None:
        self.status = answer.status
        self.headers = httpx.Headers(answer.headers)
        self._pieces = iter(answer.pieces)

    async def read(self) -> bytes:
        piece = next(self._pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def close(self) -> None:
        self._pieces = iter(())


@dataclass
class Script:
    """A port without sockets, in virtual time: it answers in turn, the last answer again and again."""

    answers: list[Said | Exception | Callable[[Request], Said]]
    #: Seconds that every answer takes.
    takes: float = 0.0
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def open(self, request: Request, timeouts: httpx.Timeout) -> _Opened:
        self.requests.append(request)
        self.now += self.takes
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return _Opened(answer if isinstance(answer, Said) else answer(request))

    async def close(self) -> None:
        self.answers = []


def scripted(
    *answers: Said | Exception | Callable[[Request], Said], retries: int = 2, takes: float = 0.0
) -> Connection:
    """Return a server that answers by a script; its `port` is a `Script`."""
    target = Target("http://there", None, "test")
    return Connection(
        Script([*answers], takes), target, 30.0, Retries(retries, rng=random.Random(1))
    )


def script(connection: Connection) -> Script:
    """Return the script behind a scripted server."""
    assert isinstance(connection.transport, Script)
    return connection.transport


def a_job(**changed: Any) -> dict[str, Any]:
    """Return a job as the API shows one."""
    at = "2026-11-20T10:00:00.000Z"
    return {
        "id": "job_01m7x4j0w3ezda66h7er4hydnh", "object": "job", "status": "processing", "account": "main",
        "vendor": "kling", "model": "m", "capability": "text2video", "external_task_id": "x", "vendor_task_id": None,
        "vendor_status": None, "progress": None, "input": {}, "output": None, "error": None, "metadata": {},
        "resolved_by": None, "retry_of": None, "version": 1, "created_at": at, "submitted_at": at,
        "finished_at": None, "deadline_at": at, "next_poll_at": None,
        "links": {"self": "s", "timeline": "t", "events": "e"},
    } | changed  # fmt: skip
