"""Scripts and styles, which a browser keeps, and the stream of events, which all its tabs share."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.dashboard.forwarding import Forwarded
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.rendering import POLICY, STATIC, asset

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: No other file is read: a path names one of these or none.
_FILES = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}


async def show(request: Request, form: FormData) -> Response:
    """Return a file. Its address changes with its content, so a browser asks once."""
    name = request.path_params["name"]
    path = _FILES.get(name)
    if path is None:
        return Response(status_code=HTTPStatus.NOT_FOUND)
    is_current = asset(name).split("/")[2] == request.path_params["digest"]
    headers = {
        "cache-control": "public, max-age=31536000, immutable" if is_current else "no-cache",
        # A shared worker takes its policy from here.
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
    }
    return Response(path.read_bytes(), headers=headers, media_type=_TYPES[path.suffix])


async def stream(page: Page) -> Response:
    """Forward the API's stream of events with the rights of the reader."""
    return Forwarded(page, "/v1/events/stream")
