"""`GET /metrics`, and what counts the requests to every path."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api.database_gauges import Gauges
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.operation import answer, operation
from orchestrator.engine.runtime import Runtime

_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


class Exposition:
    """What Prometheus reads: this process's counters, those of the others behind this port, and the database's."""

    def __init__(self, runtime: Runtime) -> None:
        self._gauges = Gauges(runtime)
        self._turn = asyncio.Lock()

    @operation(
        "Read metrics",
        answers={200: answer(None, media="text/plain", says="Prometheus text format")},
        lenient=True,
    )
    async def show(self, call: RequestContext) -> Response:
        """In Prometheus's text format. What the database would tell is left out while it cannot be asked."""
        counted = await self._gauges.now()
        # Anybody may ask: one at a time, and not where everything else is waiting for it.
        async with self._turn:
            body = await asyncio.to_thread(call.runtime.metrics.exposition, counted)
        return Response(body, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})


class Measured:
    """An ASGI application whose answers are counted, and timed until they begin. `route` is a template, no path."""

    def __init__(self, app: ASGIApp, route: str, runtime: Runtime) -> None:
        self._app = app
        self._route = route
        self._clock = runtime.clock
        self._metrics = runtime.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        began, method = (
            self._clock.monotonic(),
            scope["method"] if scope["method"] in _METHODS else "other",
        )

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests(self._route, method, str(message["status"])).inc()
                self._metrics.request_seconds(self._route, method).observe(
                    self._clock.monotonic() - began
                )
            await send(message)

        await self._app(scope, receive, counted)


def measured(runtime: Runtime, route: Route) -> Route:
    """Return a route that does the same, and is measured."""
    return Route(route.path, Measured(route.app, route.path, runtime))
