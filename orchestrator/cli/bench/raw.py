"""HTTP/1.1 at both ends, as cheap as Python allows: what measures must cost less than what is measured."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")
#: What a server makes of a request, given its head and its body: the whole response.
Answer = Callable[[bytes, bytes], bytes]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on the loop that the service runs on."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(main)


def _loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    # Here: there is none on Windows.
    import uvloop

    return uvloop.new_event_loop()


def request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return a request. `headers` are whole lines."""
    kind = "content-type: application/json\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}{kind}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def response(body: bytes = b"ok") -> bytes:
    """Return a 200."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def header(head: bytes, name: bytes) -> bytes:
    """Return a header, by its lower-case name; empty if it is not there."""
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    end = head.find(b"\r", start)
    return head[start : end if end >= 0 else len(head)].strip()


class Wire(asyncio.Protocol, ABC):
    """One connection, cut into messages: a head, and a body as long as that says."""

    def __init__(self) -> None:
        self._buffer = b""
        self._over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that it is over."""
        self._over.set()

    async def close(self) -> None:
        """Send what is still to be sent, and hang up."""
        self.transport.close()
        await self._over.wait()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            whole = end + 4 + int(header(head, b"content-length") or 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self.heard(head, body)

    @abstractmethod
    def heard(self, head: bytes, body: bytes) -> None:
        """Take a whole message."""


class Door(Wire):
    """A server's end."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def heard(self, head: bytes, body: bytes) -> None:
        """Answer a request."""
        self.transport.write(self._answer(head, body))


class Line(Wire):
    """A client's end: one request at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer. Raises `ConnectionError` if the connection ends first."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiting

    def heard(self, head: bytes, body: bytes) -> None:
        """Take the answer."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits for an answer that there is none."""
        super().connection_lost(error)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the connection was closed"))


@contextlib.asynccontextmanager
async def serving(sock: socket.socket, answer: Answer) -> AsyncIterator[None]:
    """Answer requests meanwhile; at the end every answer has gone out, and every connection is closed."""
    doors: list[Door] = []

    def door() -> Door:
        doors.append(Door(answer))
        return doors[-1]

    server = await asyncio.get_running_loop().create_server(door, sock=sock)
    try:
        yield
    finally:
        server.close()
        for one in doors:
            await one.close()


async def line(port: int) -> Line:
    """Connect to a port of this machine."""
    _, made = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", port)
    return made


async def get(port: int, path: str) -> bytes:
    """Return the body of one answer."""
    there = await line(port)
    try:
        return (await there.ask(request("GET", path)))[1]
    finally:
        await there.close()
