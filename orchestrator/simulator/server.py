"""A uvicorn server inside the running event loop, without signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp


async def stop_accepting(servers: Sequence[asyncio.Server]) -> None:
    """Close listening servers, after every accepted connection has reached its protocol.

    A connection accepted just as `Server.close` is called would otherwise stay open for ever:
    python/cpython#109564.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    # Three iterations of the loop: for the task that makes the transport, for `connection_made`,
    # and for the waiter on it.
    for _ in range(3):
        await asyncio.sleep(0)
    for server in servers:
        server.close()


class InLoopServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its process, and leaves no connection open."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(self.servers)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class LocalServer(InLoopServer):
    """Serves `app` between `start` and `stop`, by events, without uvicorn's polling.

    Port 0 picks a free port. `url` is known before `start`.
    """

    def __init__(self, app: ASGIApp, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=1,
                timeout_keep_alive=60,
            )
        )
        self._socket = socket.create_server((host, port), backlog=2048)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._task: asyncio.Task[None] | None = None
        self._ready, self._stopping = asyncio.Event(), asyncio.Event()
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        self._task = asyncio.create_task(self.serve(sockets=[self._socket]))
        await self._ready.wait()

    async def stop(self) -> None:
        self._stopping.set()
        if self._task:
            await self._task

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def abort(self, client: tuple[str, int]) -> None:
        """Reset the connection from `client`. A later response on it is lost."""
        for connection in [*self.server_state.connections]:
            if connection.transport.get_extra_info("peername") == client:
                connection.transport.abort()
        await asyncio.sleep(0)
