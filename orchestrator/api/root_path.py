"""Paths as they are from here: what stands in front of them, for a mount or a proxy, is taken off once.

ASGI says where an application is mounted in `root_path`, and leaves that in `path`:
https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """ASGI middleware behind which paths begin where the service does; `public_url` leads there from outside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        root: str = scope.get("root_path", "")
        if root:
            # A copy: the host's middleware goes on reading its own.
            scope = {**scope, "path": below(root, scope["path"]), "root_path": ""}
        await self._app(scope, receive, send)


def below(root: str, path: str) -> str:
    """Return a path without what leads to the mount; unchanged if that was taken off already, as some proxies do."""
    rest = path.removeprefix(root)
    return rest if rest.startswith("/") and rest != path else path
