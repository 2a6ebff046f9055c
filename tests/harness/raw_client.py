"""A server with the service's connections in a thread, and clients that write bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from orchestrator.foundation.settings.http import Http
from orchestrator.ingress import http_protocol
from orchestrator.simulator.server import LocalServer
from tests.harness.api_caller import Json

#: More bytes than the kernel buffers on the way to a client that does not read.
LARGE = 32 << 20


class Echo:
    """An application that answers with the request: method, path, body length, header names.

    `/stream` has no length and sends its body in two. `/early` answers before it reads, `/left`
    when the client has left, `/wait` when `/go` is asked, `/later` reads its body only then; the
    answer of `/large` is 32 MiB longer.
    """

    def __init__(self) -> None:
        self._gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, size, more = scope["path"], 0, scope["path"] != "/early"
        if path == "/later":
            await self._gate.wait()
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        if path == "/left":
            assert (await receive())["type"] == "http.disconnect"
        if path == "/go":
            self._gate.set()
        if path == "/wait":
            await self._gate.wait()
        names = [name.decode() for name, _ in scope["headers"]]
        seen = {"method": scope["method"], "path": path, "size": size, "names": names}
        body = json.dumps(seen).encode() + b"\n" + b"x" * (LARGE if path == "/large" else 0)
        headers = [] if path == "/stream" else [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        await send({"type": "http.response.body", "body": body[5:]})


class Server:
    """An echo server with some limits, in an event loop of its own."""

    def __init__(self, limits: Http) -> None:
        app = Echo()
        self._server = LocalServer(app)
        self._server.config = uvicorn.Config(
            app,
            http=http_protocol(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=uvloop.run, args=(self._run(),))
        host, _, port = self._server.url.removeprefix("http://").partition(":")
        self._address = host, int(port)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await self._server.start()
        self._started.set()
        await self._end.wait()
        await self._server.stop()

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._server.server_state.connections)

    def connect(self) -> socket.socket:
        """Return a connection; no call on it takes longer than 30 s."""
        client = socket.create_connection(self._address, timeout=30)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client


@contextlib.contextmanager
def served(limits: Http) -> Iterator[Server]:
    """Run an echo server during the block."""
    server = Server(limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def everything(client: socket.socket) -> bytes:
    """Return all that a server sends until it closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            found += data
    return found


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of the responses in a stream of bytes."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def echoes(answer: bytes) -> list[Json]:
    """Return what the echo server received."""
    return [json.loads(line) for line in re.findall(rb"^\{\"method.*$", answer, re.MULTILINE)]


def request(
    method: str = "GET", path: str = "/", body: bytes = b"", *fields: str, version: str = "1.1"
) -> bytes:
    """Return a request with these header fields."""
    length = (f"content-length: {len(body)}",) if body else ()
    lines = (f"{method} {path} HTTP/{version}", "host: localhost", *length, *fields, "", "")
    return "\r\n".join(lines).encode() + body
