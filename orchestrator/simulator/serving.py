"""A uvicorn server inside the running event loop, with no signal handlers, that can drop a connection on the floor."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp


async def stop_accepting(servers: Sequence[asyncio.Server]) -> None:
    """Close listening servers of this loop, after every connection they have accepted has reached its protocol.

    One accepted just as `Server.close` is called would otherwise stay open for ever: python/cpython#109564.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    # One turn for the task that makes the transport, one for `connection_made`, one for whoever waits for that.
    for _ in range(3):
        await asyncio.sleep(0)
    for server in servers:
        server.close()


class InLoop(uvicorn.Server):
    """A uvicorn server that leaves signals to its process, and no connection behind."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(self.servers)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Server(InLoop):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.over = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self.over.wait()


class Serving:
    """Serves `app` between `start` and `stop`. Port 0 picks a free one; `url` is known from the beginning."""

    def __init__(self, app: ASGIApp, port: int = 0, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_server((host, port), backlog=2048)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server = _Server(
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
        self._task: asyncio.Task[None] | None = None
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        await self._server.ready.wait()

    async def stop(self) -> None:
        self._server.over.set()
        if self._task:
            await self._task

    async def abort(self, client: tuple[str, int]) -> None:
        """Reset the connection that comes from `client`; whatever is answered on it afterwards goes nowhere."""
        for connection in [*self._server.server_state.connections]:
            if connection.transport.get_extra_info("peername") == client:
                connection.transport.abort()
        await asyncio.sleep(0)
