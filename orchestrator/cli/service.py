"""The service in this process: its socket, its logs, its server, its end."""

from __future__ import annotations

import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from orchestrator import logs
from orchestrator.app import create_app
from orchestrator.cli.command import Session, local_url
from orchestrator.cli.failure import Failure
from orchestrator.settings import Settings
from orchestrator.sqlite import Lock

#: Seconds for requests under way to end after SIGTERM; our own draining takes at most fifteen of them.
_GRACE = 20
_BACKLOG = 2048


def run(session: Session, settings: Settings) -> None:
    """Serve until told to end. Raises `Failure` or `ConfigError` if it cannot begin."""
    listening = listen(settings)
    settings = settings.model_copy(update={"port": listening.getsockname()[1]})
    if settings.origins()["public_url"] == "default":
        settings = settings.model_copy(update={"public_url": local_url(settings)})
    logs.configure(settings.log_format)
    app = create_app(settings)
    # Said in one line now, rather than with a traceback from inside the server.
    lock = Lock(settings.database_url)
    lock.take()
    lock.release()
    session.terminal.notice(announcement(settings))
    server = server_of(app)
    # uvicorn ends in good order and then raises the signal again; being told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run(sockets=[listening])
    if not server.started:
        raise Failure("the service did not start", hint="the log above says why")


def server_of(app: Starlette) -> uvicorn.Server:
    """Return a server that logs through us alone."""
    loop, http = ("asyncio", "h11") if sys.platform == "win32" else ("uvloop", "httptools")
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop=loop,
            http=http,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket. Raises `Failure` if the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Failure(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}",
            hint="--port names another (0 picks a free one)",
        ) from error


def announcement(settings: Settings) -> str:
    """Return the one line that says what runs where."""
    names = ", ".join(f"{name} ({one.vendor})" for name, one in sorted(settings.accounts.items())) or "none"
    database = settings.redacted()["database_url"]
    return f"orchestrator on {local_url(settings)} · public {settings.public_url} · {database} · accounts: {names}"
