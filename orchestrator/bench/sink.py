"""A receiver that costs next to nothing: raw HTTP/1.1, answers 200, remembers when each request arrived."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import socket
from collections.abc import Iterator
from multiprocessing.synchronize import Event as Flag
from typing import Any

import uvloop

from orchestrator.clock import SystemClock

CLOCK = SystemClock()

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Sink(asyncio.Protocol):
    """One connection. `arrivals` is shared by all of them: (time, webhook-id) of each delivery."""

    def __init__(self, arrivals: list[tuple[float, str]]) -> None:
        self._arrivals = arrivals
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._whole()) is not None:
            if request.startswith(b"GET"):
                body = json.dumps(self._arrivals).encode()
                self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                continue
            self._arrivals.append((CLOCK.now().timestamp(), _header(request, b"webhook-id").decode()))
            self._transport.write(_ANSWER)

    def _whole(self) -> bytes | None:
        """Return the next whole request, head and body, if it has arrived."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        whole = end + 4 + int(_header(self._buffer[:end], b"content-length") or 0)
        if len(self._buffer) < whole:
            return None
        request, self._buffer = self._buffer[:whole], self._buffer[whole:]
        return request


def _header(head: bytes, name: bytes) -> bytes:
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    end = head.find(b"\r", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _serve(sock: socket.socket, stop: Flag) -> None:
    async def main() -> None:
        arrivals: list[tuple[float, str]] = []
        server = await asyncio.get_running_loop().create_server(lambda: _Sink(arrivals), sock=sock)
        async with server:
            await asyncio.to_thread(stop.wait)

    uvloop.run(main())


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """Run the receiver in a process; yield its port. `GET /` answers all arrivals."""
    spawn = multiprocessing.get_context("spawn")
    sock, stop = socket.socket(), spawn.Event()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(512)
    child = spawn.Process(target=_serve, args=(sock, stop))
    child.start()
    try:
        yield sock.getsockname()[1]
    finally:
        stop.set()
        child.join(10)
        sock.close()


async def arrivals(port: int) -> list[tuple[float, str]]:
    """Return when each delivery arrived at the sink on `port`, in seconds of the machine's clock."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(_header(head, b"content-length")))
    writer.close()
    return [(at, event) for at, event in json.loads(body)]
