"""Responses of the API that go to the browser as they are: streams and files."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.dashboard.page import Page

#: Headers of the browser that the API reads: without them no player can seek.
_SENT = ("range", "if-range", "if-none-match", "if-modified-since")


class Forwarded(Response):
    """The response of the API to a GET, streamed, with the rights of the page's reader."""

    def __init__(self, page: Page, path: str) -> None:
        super().__init__()
        self._page = page
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        sent = self._page.request.headers
        headers = {name: sent[name] for name in _SENT if name in sent}
        await self._page.api.forward(self._path, receive, send, headers)
