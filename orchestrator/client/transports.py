"""The two transports, synchronous and asynchronous: httpx and sleeping, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import AsyncIterator, Iterator

import httpx

from orchestrator.client.connection import OpenResponse, Target, Transport
from orchestrator.client.environment import way
from orchestrator.client.errors import NotOurs, Unreachable
from orchestrator.client.requests import Request
from orchestrator.foundation.content_encoding import Decoder
from orchestrator.foundation.errors import Unreadable

#: After these errors the server has received nothing.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class _Response(OpenResponse):
    def __init__(self, response: httpx.Response, request: Request, target: Target) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._response = response
        self._network_errors = functools.partial(_network_errors, request, target)

    def _decoder(self) -> Decoder:
        """Return what decodes the body: httpx's decoders have no limits, and nest."""
        return Decoder(self._response.headers.get("content-encoding", ""))


class _SyncResponse(_Response):
    @functools.cached_property
    def _chunks(self) -> Iterator[bytes]:
        return self._decoded()

    def _decoded(self) -> Iterator[bytes]:
        if self._response.is_stream_consumed:
            # A mocked transport has built it with its body.
            yield self._response.content
            return
        decoder = self._decoder()
        for chunk in self._response.iter_raw():
            yield from decoder.feed(chunk)
        decoder.end()

    async def read(self) -> bytes:
        with self._network_errors():
            return next(self._chunks, b"")

    async def close(self) -> None:
        stream = self._response.extensions.get("network_stream")
        if stream is not None and not self._response.is_closed:
            # Closing a socket does not wake another thread that reads from it; a shutdown does.
            with contextlib.suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._response.close()


class _AsyncResponse(_Response):
    @functools.cached_property
    def _chunks(self) -> AsyncIterator[bytes]:
        return self._decoded()

    async def _decoded(self) -> AsyncIterator[bytes]:
        if self._response.is_stream_consumed:
            yield self._response.content
            return
        decoder = self._decoder()
        async for chunk in self._response.aiter_raw():
            for piece in decoder.feed(chunk):
                yield piece
        decoder.end()

    async def read(self) -> bytes:
        with self._network_errors():
            return await anext(self._chunks, b"")

    async def close(self) -> None:
        await self._response.aclose()


class SyncTransport(Transport):
    """Blocks the calling thread. Its coroutines never suspend."""

    def __init__(self, target: Target, http: httpx.Client | None) -> None:
        self._target, self._is_owner = target, http is None
        self._http = http or httpx.Client(**way(target.url))

    async def open(self, request: Request, timeouts: httpx.Timeout) -> _SyncResponse:
        with _network_errors(request, self._target):
            built = _build(self._http, request, self._target, timeouts)
            response = self._http.send(built, stream=True, follow_redirects=False)
        return _SyncResponse(response, request, self._target)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def close(self) -> None:
        if self._is_owner:
            self._http.close()


class AsyncTransport(Transport):
    """Suspends on the running event loop."""

    def __init__(self, target: Target, http: httpx.AsyncClient | None) -> None:
        self._target, self._is_owner = target, http is None
        self._http = http or httpx.AsyncClient(**way(target.url))

    async def open(self, request: Request, timeouts: httpx.Timeout) -> _AsyncResponse:
        with _network_errors(request, self._target):
            built = _build(self._http, request, self._target, timeouts)
            response = await self._http.send(built, stream=True, follow_redirects=False)
        return _AsyncResponse(response, request, self._target)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        if self._is_owner:
            await self._http.aclose()


def _build(
    http: httpx.Client | httpx.AsyncClient,
    request: Request,
    target: Target,
    timeouts: httpx.Timeout,
) -> httpx.Request:
    return http.build_request(
        request.method,
        target.url + request.path,
        params=request.params() or None,
        headers=target.headers(request),
        timeout=timeouts,
        json=request.json,
        files=request.files,
        data=request.fields,
    )


@contextlib.contextmanager
def _network_errors(request: Request, target: Target) -> Iterator[None]:
    """Raise httpx's errors as `Unreachable`, a body that cannot be decoded as `NotOurs`."""
    try:
        yield
    except Unreadable as error:
        raise NotOurs(f"{target} answered with something else than JSON: {error}") from error
    except (httpx.RequestError, httpx.InvalidURL, httpx.StreamError) as error:
        sent = not isinstance(error, _NEVER_SENT)
        problem = "did not answer" if sent else "cannot be reached"
        raise Unreachable(
            f"{request.method} {request.path}: {target} {problem}: "
            f"{str(error) or type(error).__name__}",
            sent=sent,
            idempotency_key=request.idempotency_key,
        ) from error
