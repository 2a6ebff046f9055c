"""The two ways to a socket: blocking, and awaited. Nothing but httpx and sleeping is in here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchestrator.client.connection import Target, way
from orchestrator.client.errors import Unreachable
from orchestrator.client.requests import Request

#: After these nothing has left for the server.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_TROUBLE = (httpx.RequestError, httpx.InvalidURL, httpx.StreamError)


def _built(request: Request, target: Target, limits: httpx.Timeout) -> dict[str, Any]:
    """Return the request in httpx's words."""
    said: dict[str, Any] = {
        "method": request.method,
        "url": target.url + request.path,
        "params": request.params() or None,
        "headers": target.headers(request),
        "timeout": limits,
    }
    if request.upload is not None:
        files = {"file": (request.upload.name, request.upload.content)}
        return {**said, "files": files, "data": dict(request.upload.fields)}
    return said if request.json is None else {**said, "json": request.json}


def _lost(request: Request, target: Target, error: Exception) -> Unreachable:
    """Return what losing a request is to the caller."""
    why = str(error) or type(error).__name__
    sent = not isinstance(error, (*_NEVER_SENT, httpx.InvalidURL))
    message = f"{request.method} {request.path}: {target} {'did not answer' if sent else 'cannot be reached'}: {why}"
    return Unreachable(message, sent=sent, idempotency_key=request.idempotency_key)


@dataclass
class _BlockingAnswer:
    """An answer that is read in the caller's own time."""

    response: httpx.Response
    lost: Callable[[Exception], Unreachable]
    pieces: Iterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.status = self.response.status_code
        self.headers = self.response.headers
        self.pieces = self.response.iter_bytes()

    async def read(self) -> bytes:
        try:
            return next(self.pieces, b"")
        except _TROUBLE as error:
            raise self.lost(error) from error

    async def close(self) -> None:
        stream = self.response.extensions.get("network_stream")
        if stream is not None and not self.response.is_closed:
            # Another thread may be reading, and only this wakes it.
            with contextlib.suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self.response.close()


class BlockingPort:
    """Calls that wait where they stand. Its coroutines never suspend."""

    def __init__(self, target: Target, http: httpx.Client | None) -> None:
        self._own = http is None
        self._http = http or httpx.Client(**way(target.url))

    async def open(
        self, request: Request, target: Target, limits: httpx.Timeout
    ) -> _BlockingAnswer:
        """Send a request and return the head of its answer. Raises `Unreachable`."""

        def lost(error: Exception) -> Unreachable:
            return _lost(request, target, error)

        try:
            built = self._http.build_request(**_built(request, target, limits))
            return _BlockingAnswer(
                self._http.send(built, stream=True, follow_redirects=False), lost
            )
        except _TROUBLE as error:
            raise lost(error) from error

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._own:
            self._http.close()


@dataclass
class _AwaitedAnswer:
    """An answer that is awaited."""

    response: httpx.Response
    lost: Callable[[Exception], Unreachable]
    pieces: AsyncIterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.status = self.response.status_code
        self.headers = self.response.headers
        self.pieces = self.response.aiter_bytes()

    async def read(self) -> bytes:
        try:
            return await anext(self.pieces, b"")
        except _TROUBLE as error:
            raise self.lost(error) from error

    async def close(self) -> None:
        await self.response.aclose()


class AwaitedPort:
    """Calls on the running event loop."""

    def __init__(self, target: Target, http: httpx.AsyncClient | None) -> None:
        self._own = http is None
        self._http = http or httpx.AsyncClient(**way(target.url))

    async def open(self, request: Request, target: Target, limits: httpx.Timeout) -> _AwaitedAnswer:
        """Send a request and return the head of its answer. Raises `Unreachable`."""

        def lost(error: Exception) -> Unreachable:
            return _lost(request, target, error)

        try:
            built = self._http.build_request(**_built(request, target, limits))
            return _AwaitedAnswer(
                await self._http.send(built, stream=True, follow_redirects=False), lost
            )
        except _TROUBLE as error:
            raise lost(error) from error

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._own:
            await self._http.aclose()
