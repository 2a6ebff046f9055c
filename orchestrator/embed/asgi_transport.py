"""An httpx transport to an ASGI application in this process, with streamed responses.

`httpx.ASGITransport` buffers a response until it is complete, and an event stream never is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message, Scope


class AsgiTransport(httpx.AsyncBaseTransport):
    """Calls an application mounted at `root_path`. Exceptions of the application are raised."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response as soon as it begins."""
        exchange = _Exchange(await request.aread())
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": None,
            "root_path": self._root_path,
        }
        start = await exchange.begin(self._app, scope)
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One request, and the body of its response. At most one message is buffered."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=1)
        self._disconnected = asyncio.Event()
        self._failure: Exception = httpx.RemoteProtocolError("the application ended early")
        self._complete = False
        self._task: asyncio.Task[None] | None = None

    async def begin(self, app: ASGIApp, scope: Scope) -> Message:
        """Start the application and return its first message. Raises what it raises."""
        self._task = asyncio.create_task(self._serve(app, scope), name="asgi transport")
        try:
            return await self._next()
        except BaseException:
            await self.aclose()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._complete:
            message = await self._next()
            self._complete = not message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def aclose(self) -> None:
        """Disconnect. An application that is not done is cancelled, as by a client that left."""
        self._disconnected.set()
        if self._task is not None:
            if not self._complete:
                self._task.cancel()
            await asyncio.wait([self._task])

    async def _serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._messages.put)
        except Exception as error:
            self._failure = error
        await self._messages.put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        message = await self._messages.get()
        if message is None:
            raise self._failure
        return message
