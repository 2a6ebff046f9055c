"""Host applications, served on a socket, with the service mounted in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from orchestrator.embed import Orchestrator
from orchestrator.simulator import SimulatedVendors
from orchestrator.simulator.accounts import account_settings
from orchestrator.simulator.server import InLoopServer
from tests.harness.api_caller import KEY, until
from tests.harness.live import listening

KEYED = {"authorization": f"Bearer {KEY}"}


def service(
    folder: Path, url: str, world: SimulatedVendors | None = None, **more: Any
) -> Orchestrator:
    """Return a service with a database file in a folder, and one account."""
    account = account_settings(world.base_url if world else "https://vendor.example", "kling")
    folder.mkdir(exist_ok=True)
    settings = {"accounts": {"kling": account}, "allow_private": ["127.0.0.0/8"], "api_keys": [KEY]}
    return Orchestrator(
        public_url=url, database_url=f"sqlite:///{folder}/video.db", **{**settings, **more}
    )


@contextlib.asynccontextmanager
async def hosted(app: ASGIApp, port: int = 0, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application and its lifespan on a socket in the block; yield a client of it.

    `options` are those of uvicorn.
    """
    sock = listening(port)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = InLoopServer(uvicorn.Config(app, log_config=None, ws="none", lifespan="on", **options))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await until(lambda: server.started or task.done(), "the host starts")
        async with httpx.AsyncClient(
            base_url=url, headers=KEYED, timeout=20, trust_env=False, verify=False
        ) as http:
            yield http
    finally:
        server.should_exit = True
        await task


def address() -> tuple[int, str]:
    """Return a free port and its URL."""
    with listening() as sock:
        port = sock.getsockname()[1]
    return port, f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def mounted(
    folder: Path, world: SimulatedVendors | None = None
) -> AsyncIterator[tuple[Orchestrator, httpx.AsyncClient]]:
    """Mount a service below `/a/video`; yield it and a client of its host."""
    port, url = address()
    video = service(folder, f"{url}/a/video", world)
    app = Starlette(
        routes=[Mount("/a", routes=[Mount("/video", app=video)])], lifespan=video.lifespan
    )
    async with hosted(app, port) as http:
        yield video, http
