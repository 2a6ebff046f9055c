"""Where deliveries are put down: each as it came, to be looked at by others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.simulator.server import LocalServer


@dataclass(frozen=True)
class Put:
    """One delivery: to which path, with which headers (names in lower case), and its very bytes."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Doorstep:
    """A server that takes everything."""

    url: str = ""
    put: list[Put] = field(default_factory=list)

    def at(self, path: str) -> list[Put]:
        """Return what came to a path."""
        return [one for one in self.put if one.path == path]


@contextlib.asynccontextmanager
async def doorstep() -> AsyncIterator[Doorstep]:
    """Take deliveries from here to the end of the block."""
    found = Doorstep()

    async def take(request: Request) -> Response:
        found.put.append(Put(request.url.path, dict(request.headers), await request.body()))
        return Response(status_code=204)

    serving = LocalServer(Starlette(routes=[Route("/{path:path}", take, methods=["POST"])]))
    found.url = serving.url
    await serving.start()
    try:
        yield found
    finally:
        await serving.stop()
