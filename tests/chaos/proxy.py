"""A TCP proxy on loopback that treats each connection well or badly, as a seeded draw decides."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.chaos.ways import WAYS, Pipe

#: Ports on loopback to connect to, the first that lets us in being taken.
Backends = Callable[[], Sequence[int]]


class Proxy:
    """Listens on a port of its own from `async with` on.

    `ways` may change at any time, for connections to come. Those there are can be made to stand still, or reset.
    """

    def __init__(self, backends: Backends, rng: random.Random) -> None:
        self.ways: Sequence[str] = ("straight",)
        #: Connections so far, by how they were treated.
        self.treated: Counter[str] = Counter()
        self._backends = backends
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
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

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def hold(self) -> int:
        """Let nothing through, as if packets were lost on the way; return how many connections stand still."""
        self._flowing.clear()
        return len(self._open)

    def let_go(self, *, kept: bool) -> None:
        """Let everything through again; what stood still comes late or, if nobody kept it, never."""
        if kept:
            self._flowing.set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def reset(self) -> int:
        """Reset every connection; return how many there were."""
        for task, writer in self._open.items():
            _reset(writer)
            task.cancel()
        return len(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way, flowing = self._rng.choice(self.ways), self._flowing
        self.treated[way] += 1
        beyond: asyncio.StreamWriter | None = None
        try:
            answers, beyond = await self._dial()
            asking, answering = WAYS[way]
            async with asyncio.TaskGroup() as both:
                both.create_task(asking(Pipe(reader, beyond, self._rng, flowing)))
                both.create_task(answering(Pipe(answers, writer, self._rng, flowing)))
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
