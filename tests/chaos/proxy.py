"""A TCP proxy on loopback that treats each connection well or badly, as a seeded draw decides."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType

#: Ports on loopback to connect to, the first that lets us in being taken.
Backends = Callable[[], Sequence[int]]
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Pipe:
    """One direction of a connection."""

    source: asyncio.StreamReader
    sink: asyncio.StreamWriter
    rng: random.Random


async def straight(pipe: Pipe) -> None:
    """Hand on whatever comes."""
    while chunk := await pipe.source.read(_CHUNK):
        pipe.sink.write(chunk)
        await pipe.sink.drain()
    _end(pipe)


async def brief(pipe: Pipe) -> None:
    """Hand on whatever comes for a moment, then reset the connection, idle or not."""
    try:
        async with asyncio.timeout(pipe.rng.uniform(0.1, 1.5)):
            await straight(pipe)
    except TimeoutError as error:
        raise ConnectionResetError from error


async def late(pipe: Pipe) -> None:
    """Hand on whatever comes, some time later."""
    while chunk := await pipe.source.read(_CHUNK):
        await asyncio.sleep(pipe.rng.uniform(0.05, 0.4))
        pipe.sink.write(chunk)
    _end(pipe)


async def trickle(pipe: Pipe) -> None:
    """Hand on a few bytes at a time."""
    while chunk := await pipe.source.read(16):
        pipe.sink.write(chunk)
        await asyncio.sleep(0.05)
    _end(pipe)


async def cut(pipe: Pipe) -> None:
    """Reset the connection in the middle of something."""
    pipe.sink.write(await pipe.source.read(pipe.rng.randrange(1, 300)))
    await pipe.sink.drain()
    await asyncio.sleep(0)
    raise ConnectionResetError


async def half(pipe: Pipe) -> None:
    """End this direction in the middle of something, politely, and hear no more of it."""
    pipe.sink.write(await pipe.source.read(pipe.rng.randrange(1, 200)))
    _end(pipe)
    await swallow(pipe)


async def swallow(pipe: Pipe) -> None:
    """Take everything and hand on nothing."""
    while await pipe.source.read(_CHUNK):
        continue


def _end(pipe: Pipe) -> None:
    if pipe.sink.can_write_eof() and not pipe.sink.is_closing():
        pipe.sink.write_eof()


Flow = Callable[[Pipe], Coroutine[None, None, None]]
#: What happens to what is asked, and to what is answered.
WAYS: dict[str, tuple[Flow, Flow]] = {
    "straight": (straight, straight),
    "brief": (straight, brief),
    "late": (late, late),
    "trickle request": (trickle, straight),
    "trickle": (straight, trickle),
    "reset request": (cut, straight),
    "reset": (straight, cut),
    "half-close": (straight, half),
    "black hole": (swallow, straight),
    "mute": (straight, swallow),
}


class Proxy:
    """Listens on a port of its own from `async with` on. `ways` may change at any time, for connections to come."""

    def __init__(self, backends: Backends, rng: random.Random) -> None:
        self.ways: Sequence[str] = ("straight",)
        #: Connections so far, by how they were treated.
        self.treated: Counter[str] = Counter()
        self._backends = backends
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in [*self._open]:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def mistreated(self) -> int:
        """Connections so far that were treated badly."""
        return self.treated.total() - self.treated["straight"]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = self._rng.choice(self.ways)
        self.treated[way] += 1
        beyond: asyncio.StreamWriter | None = None
        try:
            answers, beyond = await self._dial()
            asking, answering = WAYS[way]
            async with asyncio.TaskGroup() as both:
                both.create_task(asking(Pipe(reader, beyond, self._rng)))
                both.create_task(answering(Pipe(answers, writer, self._rng)))
        except* (ConnectionError, OSError):
            for end in filter(None, (writer, beyond)):
                _reset(end)
        finally:
            for end in filter(None, (writer, beyond)):
                end.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in self._backends():
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionRefusedError


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let the peer see a reset, not an end."""
    sock: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
