"""A server that records deliveries, to be verified by third-party libraries."""

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
class ReceivedDelivery:
    """A recorded delivery: path, headers with lower-case names, and body."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class DeliverySink:
    """A server that accepts every delivery."""

    url: str = ""
    deliveries: list[ReceivedDelivery] = field(default_factory=list)

    def to_path(self, path: str) -> list[ReceivedDelivery]:
        """Return the deliveries to a path."""
        return [delivery for delivery in self.deliveries if delivery.path == path]


@contextlib.asynccontextmanager
async def delivery_sink() -> AsyncIterator[DeliverySink]:
    """Record deliveries until the end of the block."""
    found = DeliverySink()

    async def add(request: Request) -> Response:
        found.deliveries.append(
            ReceivedDelivery(request.url.path, dict(request.headers), await request.body())
        )
        return Response(status_code=204)

    serving = LocalServer(Starlette(routes=[Route("/{path:path}", add, methods=["POST"])]))
    found.url = serving.url
    await serving.start()
    try:
        yield found
    finally:
        await serving.stop()
