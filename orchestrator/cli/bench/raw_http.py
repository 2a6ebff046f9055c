"""HTTP/1.1 client and server as cheap as Python allows: the load must cost less than the service.

Also what every child process of a bench does first: print its port, and end with the bench.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import uvloop


def request(method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return a request. `headers` are whole lines."""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {len(body)}\r\n"
    )
    return head.encode() + b"content-type: application/json\r\n\r\n" + body


def response(body: bytes = b"ok") -> bytes:
    """Return a 200 response."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header, by its lower-case name; empty if absent."""
    at = head.lower().find(b"\r\n" + name + b":")
    return head[at + len(name) + 3 :].split(b"\r", 1)[0].strip() if at >= 0 else b""


class _Connection(asyncio.Protocol, ABC):
    """A connection, cut into messages: a head, and a body of `content-length` bytes."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            total = end + 4 + int(header(head, b"content-length") or 0)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self.received(head, body)

    @abstractmethod
    def received(self, head: bytes, body: bytes) -> None:
        """Handle a whole message."""


class ServerConnection(_Connection):
    """The server's end. `answer` returns the whole response to a head and a body."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes]) -> None:
        super().__init__()
        self._answer = answer

    def received(self, head: bytes, body: bytes) -> None:
        self.transport.write(self._answer(head, body))


class ClientConnection(_Connection):
    """The client's end: one request at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body. Raises `ConnectionError` if the connection ends first."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiting

    def received(self, head: bytes, body: bytes) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the connection was closed"))


async def connect(port: int) -> ClientConnection:
    """Connect to a port of this machine."""
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(ClientConnection, "127.0.0.1", port))[1]


async def get(port: int, path: str) -> bytes:
    """Return the body of one response."""
    connection = await connect(port)
    try:
        return (await connection.send(request("GET", path)))[1]
    finally:
        connection.transport.close()


def listen() -> socket.socket:
    """Return a listening socket on a free port of this machine."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    # asyncio sets this only on sockets it creates itself; accepted connections inherit it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def port_of(sock: socket.socket) -> int:
    """Return the port that a socket listens on."""
    return int(sock.getsockname()[1])


# -- child processes


def end_with_bench() -> None:
    """Raise SIGTERM in this process when the bench closes our standard input, or has died."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def serve(protocol: Callable[[], asyncio.Protocol]) -> None:
    """Accept connections on a free port, and print the port, until the bench ends this process."""
    end_with_bench()
    sock = listen()

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(protocol, sock=sock)
        print(port_of(sock), flush=True)
        await server.serve_forever()

    uvloop.run(main())
