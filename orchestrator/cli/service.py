"""The service in this process: its socket, its logs, its server, its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from orchestrator.app import create_app
from orchestrator.cli import metrics_dir
from orchestrator.cli.access import local_url
from orchestrator.cli.command import Session
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.supervisor import Supervisor
from orchestrator.database import backend
from orchestrator.database.postgres.engine import is_postgres
from orchestrator.foundation import logs
from orchestrator.foundation.settings import Settings

#: Seconds for requests under way to end after SIGTERM; our own draining takes at most fifteen of them.
_GRACE = 20
_BACKLOG = 2048
#: Seconds, once and up to twice, for a client to read the end of its answer then.
_UNREAD = 1.0
_AT_ONCE = "stopped at once; what was under way comes back with its lease"


def run(session: Session, settings: Settings, workers: int = 1) -> None:
    """Serve until told to end. Raises `Failure` or `ConfigError` if it cannot begin."""
    if workers > 1 and not is_postgres(settings.database_url):
        raise Failure("SQLite serves one process", hint="leave --workers away, or use PostgreSQL")
    # Said in one line now: before anything is made, and rather than with a traceback from inside the server.
    database = backend.check(settings.database_url)
    listening = listen(settings)
    settings = settings.model_copy(update={"port": listening.getsockname()[1]})
    if settings.origins()["public_url"] == "default":
        settings = settings.model_copy(update={"public_url": local_url(settings)})
    logs.configure(settings.log_format)
    app = create_app(settings)
    session.terminal.notice(announcement(settings, database))
    for risk in settings.risks():
        session.terminal.notice(f"warning: {risk}")
    if workers > 1:
        with metrics_dir.shared() as folder:
            Supervisor(
                workers, child, settings, listening, gone=partial(metrics_dir.forget, folder)
            ).run()
    elif not serve(app, listening):
        raise Failure("the service did not start", hint="the log above says why")


def child(settings: Settings, listening: socket.socket) -> None:
    """Serve as one process of several."""
    logs.configure(settings.log_format)
    if not serve(create_app(settings), listening):
        sys.exit(Exit.ERROR)


def serve(app: Starlette, listening: socket.socket) -> bool:
    """Serve on a socket until told to end; return whether it had started."""
    server = server_of(app)
    calm()
    # uvicorn ends in good order and then raises the signal again; being told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run(sockets=[listening])
    return server.started


class Server(uvicorn.Server):
    """Ends in good order when told to, and at once when told again. `close` is told before answers are waited for."""

    def __init__(self, config: uvicorn.Config, close: Callable[[], None]) -> None:
        super().__init__(config)
        self._close = close

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End streams, wait for answers, but not for clients that do not read the end of theirs."""
        self._close()
        hanging_up = asyncio.create_task(self._hang_up())
        try:
            await super().shutdown(sockets)
        finally:
            hanging_up.cancel()

    async def _hang_up(self) -> None:
        """Break off connections that are to be closed, and after a while still hold what nobody reads."""
        closing: set[object] = set()
        while True:
            await asyncio.sleep(_UNREAD)
            for connection in list(self.server_state.connections):
                if connection in closing:
                    connection.transport.abort()
            closing = {one for one in self.server_state.connections if one.transport.is_closing()}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; the second Ctrl-C ends the process."""
        super().handle_exit(sig, frame)
        if self.force_exit:
            # Unwinding would only print every task that it cuts; what was committed is on the disk already, and the
            # kernel drops the lock. Not through the logs: they may be in the middle of a line.
            os.write(sys.stderr.fileno(), f"\n{_AT_ONCE}\n".encode())
            os._exit(Exit.INTERRUPTED)


def calm() -> None:
    """Keep the garbage collector away from what lives as long as the process, and let it look less often.

    Measured on pushes: a tenth more of them, and the slowest hundredth twice as fast.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def server_of(app: Starlette) -> uvicorn.Server:
    """Return a server that logs through us alone."""
    return Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        ),
        app.state.close,
    )


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket. Raises `Failure` if the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        raise Failure(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}",
            hint="--port names another (0 picks a free one)",
        ) from error
    # asyncio does this only for sockets it made itself: an answer in two writes would wait 40 ms for a delayed ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def announcement(settings: Settings, database: str) -> str:
    """Return the one line that says what runs where."""
    names = (
        ", ".join(f"{name} ({one.vendor})" for name, one in sorted(settings.accounts.items()))
        or "none"
    )
    return f"orchestrator on {local_url(settings)} · public {settings.public_url} · {database} · accounts: {names}"
