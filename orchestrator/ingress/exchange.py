"""One request and its response, as the application sees them: what uvicorn's cycle gets wrong."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_DISCONNECT: Message = {"type": "http.disconnect"}


class Exchange:
    """An ASGI application around the service's, for one request.

    A client that has shut its writing side is answered: the application sees it disconnect, as it
    may have left, but what is sent still is written. A response without a length to an HTTP/1.0
    client ends with the connection, since that client knows no chunks (RFC 9112, section 6.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # Typed more narrowly by uvicorn than by Starlette.
        self._cycle: Any = None
        self._is_half_closed = False
        self._is_read = False
        self._until_close = False
        #: The connection ends with this response.
        self.closes = False

    def begin(self, cycle: RequestResponseCycle) -> None:
        """Take uvicorn's side of the request; it calls this application afterwards."""
        self._cycle = cycle

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request."""
        lasts = self._cycle.keep_alive and scope["http_version"] == "1.1"
        return self._app(scope, self._receive, send if lasts else self._send)

    def half_close(self) -> None:
        """Note that the client will send nothing more, its request being complete."""
        self._is_half_closed = True
        self._cycle.message_event.set()

    def disconnect(self) -> None:
        """Drop the response, and tell the application that the client has left."""
        self._cycle.disconnected = True
        self._cycle.message_event.set()

    async def _receive(self) -> Message:
        if not (self._is_read and self._is_half_closed):
            message: Message = await self._cycle.receive()
            if not (self._is_read and self._is_half_closed):
                self._is_read = not message.get("more_body", False)
                return message
        return _DISCONNECT

    async def _send(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts and self._cycle.scope["http_version"] != "1.1":
            self._cycle.keep_alive = False
            names = {name.lower() for name, _ in message.get("headers", ())}
            self._until_close = b"content-length" not in names
        if self._until_close:
            self._cycle.chunked_encoding = False
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._cycle.send(message)
        if starts:
            # The protocol closes: it first reads what the client has sent, so that the end of the
            # response is not lost to a reset.
            self.closes = self._cycle.keep_alive = True
