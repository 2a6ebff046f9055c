"""An application in this process as httpx sees a server. Answers are handed over while they are being made.

That is the difference to `httpx.ASGITransport`, which keeps an answer until it is whole: a stream has no end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message, Scope


class AsgiTransport(httpx.AsyncBaseTransport):
    """Calls an application as if it were mounted at `root_path`. What the application raises, the caller gets."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer as soon as it begins."""
        body = await request.aread()
        exchange = _Exchange(body)
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
    """One request on its way, and the body of its answer. At most one piece waits to be read."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._said: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=1)
        self._over = asyncio.Event()
        self._failure: Exception = httpx.RemoteProtocolError(
            "the application ended its answer early"
        )
        self._whole = False
        self._task: asyncio.Task[None] | None = None

    async def begin(self, app: ASGIApp, scope: Scope) -> Message:
        """Have the request served; return how the answer begins. Raises what the application raises."""
        self._task = asyncio.create_task(self._serve(app, scope), name="indoors")
        try:
            return await self._next()
        except BaseException:
            await self.aclose()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._whole:
            message = await self._next()
            self._whole = not message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def aclose(self) -> None:
        """Leave. The application hears of it as of a client that hung up, and is not waited for."""
        self._over.set()
        if self._task is not None:
            if not self._whole:
                self._task.cancel()
            await asyncio.wait([self._task])

    async def _serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._said.put)
        except Exception as error:
            self._failure = error
        await self._said.put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        message = await self._said.get()
        if message is None:
            raise self._failure
        return message
