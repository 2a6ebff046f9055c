"""A TCP proxy on loopback. The mode of each connection is drawn from a seeded random generator."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.chaos.connection_modes import MODES, Closed, Pipe
from tests.harness.streams import accepting

#: Ports on loopback. The first that accepts is used.
Backends = Callable[[], Sequence[int]]


class Proxy:
    """Listens on its own port inside `async with`.

    `modes` applies to new connections. Open connections can be paused or reset.
    """

    def __init__(self, backends: Backends, rng: random.Random) -> None:
        self.modes: Sequence[str] = ("forward",)
        #: Connections by mode.
        self.counts: Counter[str] = Counter()
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
    def disturbed(self) -> int:
        """Number of disturbed connections."""
        return self.counts.total() - self.counts["forward"]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def hold(self) -> int:
        """Block all traffic, as if packets were lost. Return the number of open connections."""
        self._flowing.clear()
        return len(self._open)

    def let_go(self, *, kept: bool) -> None:
        """Let traffic through again. Blocked bytes arrive late if `kept`, otherwise never."""
        if kept:
            self._flowing.set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def reset(self) -> int:
        """Reset every connection and return their number."""
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
        mode, flowing = self._rng.choice(self.modes), self._flowing
        self.counts[mode] += 1
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await self._dial()
            asking, answering = MODES[mode]
            async with asyncio.TaskGroup() as both:
                both.create_task(asking(Pipe(reader, upstream, self._rng, flowing)))
                both.create_task(answering(Pipe(answers, writer, self._rng, flowing)))
        except* Closed:
            pass
        except* (ConnectionError, OSError):
            for end in filter(None, (writer, upstream)):
                _reset(end)
        finally:
            for end in filter(None, (writer, upstream)):
                end.transport.abort()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in self._backends():
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionRefusedError


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the socket with RST instead of FIN."""
    sock: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
