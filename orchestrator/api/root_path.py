"""The root path: the prefix of a mount or a proxy is removed from paths once.

ASGI passes the prefix in `root_path`, and leaves it in `path`:
https://asgi.readthedocs.io/en/latest/specs/www.html#http-connection-scope
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """ASGI middleware that removes the root path, so that routes begin at `public_url`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        root: str = scope.get("root_path", "")
        if root:
            # A copy: the host's middleware still reads its own scope.
            scope = {**scope, "path": below(root, scope["path"]), "root_path": ""}
        await self._app(scope, receive, send)


def below(root: str, path: str) -> str:
    """Return a path without the root path; unchanged if a proxy has removed that already."""
    rest = path.removeprefix(root)
    return rest if rest.startswith("/") and rest != path else path
