"""`GET /metrics`, and the middleware that counts and times requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api.database_gauges import Gauges
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.operation import operation, returns
from orchestrator.engine.ticker import Pulse
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.metrics import Metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


@dataclass
class Exposition:
    """The metrics of this process, of the others behind its port, and of the database."""

    metrics: Metrics
    gauges: Gauges
    pulse: Pulse

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()

    @operation(
        "Read metrics",
        responses={
            200: returns(None, media_type="text/plain", description="Prometheus text format")
        },
        lenient=True,
    )
    async def show(self, context: RequestContext) -> Response:
        """In Prometheus's text format. While the database is unavailable, its gauges are absent."""
        counts = await self.gauges.now()
        self.metrics.ticked(self.pulse.lag)
        # No key is needed: so one at a time, and on another thread than the event loop's.
        async with self._lock:
            body = await asyncio.to_thread(self.metrics.exposition, counts)
        return Response(body, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})


@dataclass(frozen=True)
class Measured:
    """ASGI middleware: counts responses, and times them until they begin.

    `route` is a path template, so that labels stay few.
    """

    app: ASGIApp
    route: str
    clock: Clock
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = self.clock.monotonic()
        method = scope["method"] if scope["method"] in _METHODS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = self.clock.monotonic() - began
                self.metrics.requests(self.route, method, str(message["status"])).inc()
                self.metrics.request_seconds(self.route, method).observe(seconds)
            await send(message)

        await self.app(scope, receive, counted)
