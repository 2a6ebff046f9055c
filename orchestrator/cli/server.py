"""The HTTP server of a process: its configuration, its signals and its shutdown."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Callable
from types import FrameType

import structlog
import uvicorn
from starlette.applications import Starlette

from orchestrator.cli.failure import Exit
from orchestrator.cli.listener import backlog
from orchestrator.cli.supervisor import HANGUP_IGNORED
from orchestrator.foundation.settings import Settings
from orchestrator.ingress import http_protocol

log = structlog.get_logger()

#: Seconds for requests to finish after SIGTERM; the service itself drains in at most fifteen.
_GRACE = 20
#: Seconds, once to twice, for a client to read the end of its answer at shutdown.
_UNREAD = 1.0
_STDERR = 2
_AT_ONCE = "stopped at once; work in progress is taken up again when its lease ends"


class Server(uvicorn.Server):
    """Shuts down in order at a signal, and at once at a second Ctrl-C. `close` ends streams."""

    def __init__(self, config: uvicorn.Config, close: Callable[[], None]) -> None:
        super().__init__(config)
        self._close = close

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and from then on log a SIGHUP."""
        await super().startup(sockets)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGHUP, log.warning, HANGUP_IGNORED
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams and wait for answers, but not for clients that do not read theirs."""
        self._close()
        hanging_up = asyncio.create_task(self._hang_up())
        try:
            await super().shutdown(sockets)
        finally:
            hanging_up.cancel()

    async def _hang_up(self) -> None:
        """Abort connections that are closing and still hold unread data after `_UNREAD`."""
        closing: set[object] = set()
        while True:
            await asyncio.sleep(_UNREAD)
            connections = list(self.server_state.connections)
            for connection in connections:
                if connection in closing:
                    connection.transport.abort()
            closing = {
                connection for connection in connections if connection.transport.is_closing()
            }

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; the second Ctrl-C ends the process."""
        super().handle_exit(sig, frame)
        if self.force_exit:
            # Unwinding would only print every cancelled task; committed work is on the disk, and
            # the kernel drops the lock. Not through the logs: they may be in the middle of a line.
            if select.select([], [_STDERR], [], 0)[1]:
                os.write(_STDERR, f"\n{_AT_ONCE}\n".encode())
            os._exit(Exit.INTERRUPTED)


def server_of(app: Starlette, settings: Settings) -> uvicorn.Server:
    """Return a server that logs through our logging alone."""
    return Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=http_protocol(settings.http),
            # No upgrade is taken: `HttpProtocol` ignores them all.
            ws="none",
            backlog=backlog(settings),
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        ),
        app.state.close,
    )
