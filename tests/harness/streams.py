"""Servers of raw connections on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine

from orchestrator.simulator.server import stop_accepting

#: What is done with a connection.
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@contextlib.asynccontextmanager
async def accepting(handle: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Give every connection to a port, which is yielded, to `handle`; break off those still open in the end."""
    taken: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken[writer] = asyncio.create_task(handle(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, backlog=512)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await stop_accepting([server])
        for writer, task in taken.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*taken.values(), return_exceptions=True)
