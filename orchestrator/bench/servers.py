"""What the benches measure and what they measure it beside, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestrator import logs
from orchestrator.app import create_app
from orchestrator.cli.service import calm
from orchestrator.settings import Settings

SECRET = "bench-" + "k" * 40
#: Loop and HTTP parser: what uvicorn takes where its extras are missing, and what `serve` runs on.
SERVERS = {"plain": ("asyncio", "h11"), "fast": ("uvloop", "httptools")}


def settings(folder: Path, **values: Any) -> Settings:
    """Return the settings of a service under measurement."""
    given: dict[str, Any] = {
        "database_url": f"sqlite:///{folder / 'bench.db'}",
        "secret_keys": [SECRET],
        "api_keys": ["orc_" + "b" * 40],
        "allow_private": ["127.0.0.0/8"],
        "accounts": {
            "bench": {"vendor": "kling", "api_key": "k", "max_in_flight": 10000, "poll": {"first_after": 3600}}
        },
    }
    return Settings.model_validate(given | values)


def bare() -> Starlette:
    """Return the limit of ingestion: a handler that parses the body, stores nothing and says ok."""

    async def push(request: Request) -> JSONResponse:
        json.loads(await request.body())
        return JSONResponse({"ok": True})

    return Starlette(routes=[Route("/callbacks/{account}/{token}", push, methods=["POST"])])


def service(folder: Path, values: dict[str, Any]) -> Starlette:
    """Return the product."""
    logs.configure("json", logging.ERROR)
    app = create_app(settings(folder, **values))
    calm()
    return app


def _serve(server: str, make: Callable[..., Any], args: tuple[Any, ...], sock: socket.socket) -> None:
    loop, http = SERVERS[server]
    config = uvicorn.Config(make(*args), loop=loop, http=http, log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[sock])


@contextlib.contextmanager
def process(make: Callable[..., Any], *args: Any, server: str = "fast") -> Iterator[int]:
    """Serve an application in a process, on one of `SERVERS`; yield its port; stop it with SIGTERM."""
    sock = socket.socket()
    # As `serve` does: accepted connections inherit it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", 0))
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(server, make, args, sock))
    child.start()
    port = sock.getsockname()[1]
    sock.close()
    try:
        _ready(port)
        yield port
    finally:
        child.terminate()
        child.join(30)


def _ready(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError("the server did not start")
