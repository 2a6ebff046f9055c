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
from tests.harness.streams import accepting

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
        self._listening = contextlib.AsyncExitStack()
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.url = ""

    async def __aenter__(self) -> Proxy:
        port = await self._listening.enter_async_context(accepting(self._serve))
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._listening.aclose()

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
        for writer, task in self._open.items():
            _reset(writer)
            task.cancel()
        return len(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        try:
            await self._treat(reader, writer)
        finally:
            del self._open[writer]

    async def _treat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
