"""Raw connections to the service: bytes that no HTTP library would send."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.harness.api_caller import until


@dataclass
class Wire:
    """A connection, and what came on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytes = b""
    sent: int = 0
    closed: bool = False
    _reading: asyncio.Task[None] | None = field(default=None, repr=False)

    async def send(self, data: bytes) -> bool:
        """Send, and return False once the other side has closed the connection."""
        if self.closed:
            return False
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            self.closed = True
            return False
        self.sent += len(data)
        return not self.closed

    async def ends(self, seconds: float) -> bool:
        """Return True if the other side closes the connection within this time."""
        assert self._reading is not None
        await asyncio.wait([self._reading], timeout=seconds)
        return self.closed

    @property
    def status(self) -> int | None:
        """The status of the answer, None without one."""
        words = self.received[:32].split(b" ")
        return int(words[1]) if len(words) > 1 and words[1][:3].isdigit() else None

    async def answered(self, seconds: float = 15) -> int | None:
        """Wait for an answer, or the end of the connection; return the status."""
        with contextlib.suppress(AssertionError):
            await until(lambda: self.status is not None or self.closed, seconds=seconds)
        return self.status

    async def collect(self) -> None:
        """Read until the end. 1 MiB is kept."""
        with contextlib.suppress(ConnectionError):
            while chunk := await self.reader.read(1 << 16):
                if len(self.received) < 1 << 20:
                    self.received += chunk
        self.closed = True


async def connect(port: int, *, reads: bool = True, host: str = "127.0.0.1") -> Wire:
    """Open a connection. Without `reads` the receive buffer is small, and nobody empties it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setblocking(False)
    if not reads:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await asyncio.get_running_loop().sock_connect(sock, (host, port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 12)
    it = Wire(reader, writer)
    if reads:
        it._reading = asyncio.create_task(it.collect())
    return it


@contextlib.asynccontextmanager
async def connected(port: int, **how: Any) -> AsyncIterator[Wire]:
    """Open a connection during the block."""
    it = await connect(port, **how)
    try:
        yield it
    finally:
        close([it])


def close(wires: Iterable[Wire]) -> None:
    """Reset connections."""
    for wire in wires:
        close_writer(wire.writer)
        if wire._reading is not None:
            wire._reading.cancel()


def close_writer(writer: asyncio.StreamWriter) -> None:
    """Reset a connection."""
    sock: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def exchange(port: int, data: bytes, seconds: float = 15, **how: Any) -> Wire:
    """Send bytes on a new connection; return it once an answer came or it ended."""
    async with connected(port, **how) as wire:
        await wire.send(data)
        await wire.answered(seconds)
        # The rest of the answer.
        await wire.ends(0.05)
        return wire


def head(method: str, path: str, *lines: str, key: str = "") -> bytes:
    """Return a request head with `Host`, these lines, and a key."""
    auth = (f"authorization: Bearer {key}",) if key else ()
    return "\r\n".join((f"{method} {path} HTTP/1.1", "host: x", *auth, *lines, "", "")).encode()
