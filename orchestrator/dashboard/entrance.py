"""The way to the pages: `GET /`, and what loads the dashboard with the first request of a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

#: Of the dashboard, below the public URL.
PREFIX = "/dashboard"


def route(*, has_dashboard: bool) -> Route:
    """Return the route of the root: it leads a browser to the dashboard, others to `/docs`.

    Other methods are left to the API, which refuses them.
    """

    async def lead(request: Request) -> Response:
        # Browsers list text/html when a person opens a page; scripts and clients send */*.
        is_browser = "text/html" in request.headers.get("accept", "")
        # Relative: it holds behind the prefix of a proxy.
        where = "dashboard" if is_browser and has_dashboard else "docs"
        headers = {"vary": "accept", "cache-control": "no-store"}
        return RedirectResponse(where, HTTPStatus.TEMPORARY_REDIRECT, headers)

    return Route("/", lead, methods=["GET"])


class LatePages:
    """An ASGI application that is made, on a thread, with the first request.

    Pages, and Jinja, are slow to load, and many processes never show one.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._made: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app = self._made or await self._load()
        await app(scope, receive, send)

    async def _load(self) -> ASGIApp:
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
        return self._made


def routes(make: Callable[[], ASGIApp]) -> list[Route]:
    """Return the routes of all pages; `make` returns the application that serves them."""
    pages = LatePages(make)
    return [Route(PREFIX, pages), Route(PREFIX + "/{rest:path}", pages)]
