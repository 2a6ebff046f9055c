"""The client with hostile servers: it releases every connection, and every response ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from orchestrator.client import AsyncClient, Client, RateLimited, Unavailable, Unreachable
from orchestrator.client.connection import Connection, Target
from orchestrator.client.requests import Request
from orchestrator.client.responses import parse_response
from orchestrator.client.sync_async import run_sync
from tests.harness.api_caller import until
from tests.harness.scripted_client import ScriptedTransport, scripted

GET = Request("GET", "/v1/jobs/job_1")


@dataclass
class Stalling:
    """A server that starts every response and ends none. `held` are its open connections."""

    url: str = ""
    requests: int = 0
    held: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.held.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            streaming = b"/stream" in await reader.readuntil(b"\r\n\r\n")
            kind = b"text/event-stream" if streaming else b"application/json"
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: "
                + kind
                + b"\r\n\r\nid: e_1\n\n"
            )
            self.requests += 1
            await reader.read()
        self.held.discard(writer)
        writer.close()


@pytest.fixture
async def stalling() -> AsyncIterator[Stalling]:
    server = Stalling()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield server


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.jobs.get("job_1"),
        lambda client: client.wait("job_1"),
        lambda client: client.jobs.list().page(),
        lambda client: anext(client.events.stream()),
    ],
    ids=["get", "wait", "list", "stream"],
)
async def test_a_canceled_call_leaves_no_connection_and_no_task(
    stalling: Stalling, call: Callable[[AsyncClient], Coroutine[Any, Any, object]]
) -> None:
    async with AsyncClient(stalling.url) as client:
        before = asyncio.all_tasks()
        pending = asyncio.ensure_future(call(client))
        await until(lambda: stalling.requests == 1, "the request arrives")
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        await until(lambda: not stalling.held, "the connection is released")
        await until(lambda: asyncio.all_tasks() <= before, "the tasks end")
    # Anything left open warns here, and a warning is an error.
    gc.collect()


async def test_closing_a_stream_from_another_thread_ends_it_at_once(stalling: Stalling) -> None:
    """Closing a socket does not wake its reader, which would wait for the idle timeout."""
    with Client(stalling.url) as client:
        stream = client.events.stream()
        reading = asyncio.create_task(asyncio.to_thread(list, stream))
        await until(lambda: stalling.requests == 1, "the request arrives")
        began = time.monotonic()
        await asyncio.to_thread(stream.close)
        assert await reading == []
        assert time.monotonic() - began < 5
        await until(lambda: not stalling.held, "the connection is released")


@dataclass
class Dripping:
    """An endless response, a byte every ten seconds."""

    clock: ScriptedTransport
    status: int = 200
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    closed: bool = False

    async def read(self) -> bytes:
        self.clock.now += 10
        return b" "

    async def close(self) -> None:
        self.closed = True


class Drips(ScriptedTransport):
    """A transport in which every response drips."""

    async def open(self, request: Request, timeouts: httpx.Timeout) -> Any:
        self.last = Dripping(self)
        return self.last


@pytest.mark.parametrize(("patience", "ends"), [(None, 90), (35.0, 35)])
def test_a_response_that_drips_is_given_up(patience: float | None, ends: float) -> None:
    """The read timeout of 30 s never expires; the whole body has a minute more."""
    transport = Drips([])
    connection = Connection(
        transport, Target("http://there", None, "test"), 30.0, scripted(RuntimeError()).retries
    )
    with pytest.raises(Unreachable, match="end of its answer") as lost:
        run_sync(
            connection.call_once(GET) if patience is None else connection.call_once(GET, patience)
        )
    assert lost.value.sent
    assert ends < transport.now <= ends + 10
    assert transport.last.closed


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (503, Unavailable), (524, Unavailable)]
)
def test_an_html_error_page_of_a_proxy_is_a_transient_error(
    status: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        parse_response(GET, "http://there", status, httpx.Headers(), b"<html>too many</html>")


def test_the_message_of_a_huge_problem_document_is_short() -> None:
    fault = b'{"pointer": "/x", "code": "c", "message": "%s"}' % (b"m" * 9000)
    body = b'{"title": "t", "detail": "%s", "errors": [%s]}' % (
        b"d" * 90_000,
        b",".join([fault] * 900),
    )
    with pytest.raises(Exception, match="422") as refused:
        parse_response(GET, "http://there", 422, httpx.Headers(), body)
    assert len(str(refused.value)) < 150_000
