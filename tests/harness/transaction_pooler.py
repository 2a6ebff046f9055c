"""A connection pooler in transaction mode, as PgBouncer is: many clients share few sessions.

A client has a session of the server from the first message of a transaction until the server is
ready outside of one. The next transaction gets the session that was idle for longest. So what
belongs to a session reaches other clients, or is lost.
Protocol: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from orchestrator.database.postgres import engine as postgres

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_READY_IDLE = b"Z\x00\x00\x00\x05I"
#: The client's messages after which the server reports that it is ready: Query and Sync.
_ENDS = (b"Q", b"S")
Message = tuple[bytes, bytes]


async def _message(reader: asyncio.StreamReader) -> Message:
    """Return the type and the whole of a message."""
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)


def _error(text: str) -> bytes:
    fields = b"SFATAL\0VFATAL\0C08P01\0M" + text.encode() + b"\0\0"
    return b"E" + struct.pack("!I", len(fields) + 4) + fields


class Session:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        #: What the server said of itself: `ParameterStatus` messages.
        self.parameters = b""

    async def start(self, user: str, database: str) -> None:
        """Log in to a server that trusts us."""
        words = f"user\0{user}\0database\0{database}\0\0".encode()
        self.writer.write(struct.pack("!II", len(words) + 8, 196608) + words)
        while (message := await _message(self.reader))[0] != b"Z":
            if message[0] == b"S":
                self.parameters += message[1]


class Pooler:
    """Serves on `port` of loopback until it is stopped."""

    def __init__(self, address: str, sessions: int, *, takes_options: bool) -> None:
        parsed = postgres.url_of(address)
        self._database = str(parsed.database)
        self._user = str(parsed.username)
        self._socket = f"{parsed.query['host']}/.s.PGSQL.5432"
        self._count = sessions
        self._takes_options = takes_options
        self._idle: asyncio.Queue[Session] = asyncio.Queue()
        self._parameters = b""
        self._clients: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        #: Sessions that each client had.
        self.used: list[set[Session]] = []
        self.port = 0

    async def serve(self, ready: threading.Event) -> None:
        """Serve until `stop`."""
        for _ in range(self._count):
            session = Session(*await asyncio.open_unix_connection(self._socket))
            await session.start(self._user, self._database)
            self._parameters = session.parameters
            self._idle.put_nowait(session)
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        while not self._idle.empty():
            self._idle.get_nowait().writer.close()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """End all connections."""
        self._stop.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        lost = (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError)
        with contextlib.suppress(*lost):
            if await self._welcome(reader, writer):
                await self._client(reader, writer)
        writer.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Let a client in, with a process id and key of our own, unless it sends options."""
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            rest = await reader.readexactly(length - 8)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                break
            writer.write(b"N")
        if b"\0options\0" in b"\0" + rest and not self._takes_options:
            writer.write(_error("unsupported startup parameter: options"))
            return False
        trusted, key = struct.pack("!cII", b"R", 8, 0), struct.pack("!cIII", b"K", 12, 7, 7)
        writer.write(trusted + self._parameters + key + _READY_IDLE)
        return True

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        used = set[Session]()
        self.used.append(used)
        while (first := await _message(reader))[0] != b"X":
            session = await self._idle.get()
            used.add(session)
            try:
                await self._transaction(first, session, reader, writer)
            finally:
                self._idle.put_nowait(session)

    async def _transaction(
        self,
        message: Message,
        session: Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Pass messages on until the server is ready outside of a transaction."""
        while True:
            session.writer.write(message[1])
            while message[0] in _ENDS:
                kind, answer = await _message(session.reader)
                writer.write(answer)
                if answer == _READY_IDLE:
                    return
                if kind == b"Z":
                    break
            message = await _message(reader)


@contextlib.contextmanager
def pooler(address: str, sessions: int = 3, *, takes_options: bool = False) -> Iterator[Any]:
    """Run a pooler on a thread; yield it, with its `url`.

    `takes_options`: it ignores the options of a client, instead of refusing it.
    """
    ready, loop = threading.Event(), asyncio.new_event_loop()
    made = Pooler(address, sessions, takes_options=takes_options)
    thread = threading.Thread(target=_run, args=(loop, made.serve(ready)), daemon=True)
    thread.start()
    assert ready.wait(20)
    parsed = postgres.url_of(address)
    try:
        yield made, f"postgresql://{parsed.username}@127.0.0.1:{made.port}/{parsed.database}"
    finally:
        loop.call_soon_threadsafe(made.stop)
        thread.join(20)


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    with contextlib.closing(loop):
        loop.run_until_complete(work)
