"""Cross-origin requests (CORS) of browsers, from the origins that the settings name, below `/v1`.

Keys are sent in a header, never in a cookie: so no credentials are allowed, and no wildcard.
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
_ALLOWED = (
    "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "If-None-Match",
    "Last-Event-ID", "Prefer", "X-Request-Id",
)  # fmt: skip
_EXPOSED = (
    "ETag", "Idempotent-Replayed", "Link", "Location", "Preference-Applied", "RateLimit",
    "RateLimit-Policy", "Retry-After", "X-Request-Id",
)  # fmt: skip
#: Seconds for which a browser remembers a preflight.
_MAX_AGE = 600


class CorsMiddleware:
    """ASGI middleware: answers preflights, and adds headers to every response below `/v1`."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_ALLOWED,
            expose_headers=_EXPOSED,
            max_age=_MAX_AGE,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_api = scope["type"] == "http" and f"{scope['path']}/".startswith("/v1/")
        await (self._cors if is_api else self._app)(scope, receive, send)
