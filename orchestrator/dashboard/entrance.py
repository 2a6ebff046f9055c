"""`GET /`: a browser is led to the dashboard, any other client to the documentation of the API."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route


def route(*, has_dashboard: bool) -> Route:
    """Return the route of the root. Other methods are left to the API, which refuses them."""

    async def lead(request: Request) -> Response:
        # Browsers list text/html when a person opens a page; scripts and clients send */*.
        is_browser = "text/html" in request.headers.get("accept", "")
        # Relative: it holds behind the prefix of a proxy.
        where = "dashboard" if is_browser and has_dashboard else "docs"
        headers = {"vary": "accept", "cache-control": "no-store"}
        return RedirectResponse(where, HTTPStatus.TEMPORARY_REDIRECT, headers)

    return Route("/", lead, methods=["GET"])
