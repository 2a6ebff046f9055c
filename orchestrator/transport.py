"""The wire: an httpx transport that aiohttp carries, with the guard at the socket.

httpx is the vocabulary, aiohttp does the work: httpx's own pool is slow under load and does not survive cancellation.
Every failure is one of two facts: `NotSent`, no byte of the request left us; `CutOff`, some may have.
"""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Final

import aiohttp
import httpx
import yarl
from aiohttp.abc import ResolveResult

from orchestrator.errors import Blocked, CutOff, NotSent, TooLate
from orchestrator.guard import Guard, check_form


class _GuardedResolver(aiohttp.ThreadedResolver):
    """Refuses a name if any of its addresses is forbidden: a private address beside a public one is an attack."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        for entry in found:
            self._guard.check(entry["host"], port)
        return found


CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one address, TCP and TLS handshake together."""

_AT_ONCE: Final = 2**20
"""Bytes of a request body written in one go; more would hold up the event loop, and aiohttp warns of it."""

# First match wins, so OSError, the base of most of them, stands last.
_BEFORE: Final[list[tuple[type[Exception], str]]] = [
    (socket.gaierror, "dns_error"),
    (ssl.SSLError, "tls_error"),
    (TimeoutError, "connect_timeout"),
    (ConnectionRefusedError, "connection_refused"),
    (ConnectionError, "connection_reset"),
    (OSError, "network_unreachable"),
]
_AFTER: Final[list[tuple[type[Exception], str]]] = [
    (TimeoutError, "timeout"),
    (aiohttp.ServerDisconnectedError, "disconnected"),
    (aiohttp.ClientPayloadError, "disconnected"),
    (aiohttp.ClientResponseError, "bad_response"),
    (OSError, "connection_reset"),
]


def _failure(request: httpx.Request, error: Exception) -> NotSent | CutOff:
    """aiohttp's error in our words: its own may hold whole URLs, and those may hold secrets."""
    host, sent = request.url.host, request.extensions["sent"]
    if isinstance(error, aiohttp.InvalidURL):
        return Blocked(f"{host}: not a host that can be reached")
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
        # Headers are serialised after `sent` is set and before the first byte, so this one is known not to have left.
        return NotSent(f"{host}: the request cannot be written", kind="invalid_request")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    kind = next((word for match, word in (_AFTER if sent else _BEFORE) if isinstance(cause, match)), None)
    why = kind or type(error).__name__ if cause is error else cause
    return (CutOff if sent else NotSent)(f"{host}: {why}", kind=kind)


async def _mark_sent(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """Called on a connected socket just before the first write: what fails earlier never left, the rest may have.

    Connecting takes its time, and a process can stand still in it.
    """
    request: httpx.Request = context.trace_request_ctx
    if (may_leave := request.extensions.get("may_leave")) and not may_leave():
        raise TooLate(f"{request.url.host}: the request may no longer leave")
    request.extensions["sent"] = True


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """The bytes as they come off the wire. Closing before the end closes the connection too."""

    def __init__(self, request: httpx.Request, answer: aiohttp.ClientResponse) -> None:
        self._request = request
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _failure(self._request, error) from None
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._answer.close()


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport on an aiohttp session: guarded, no redirects, cookies, proxies, decompression or retries.

    Raises `Blocked`, `TooLate`, `NotSent` or `CutOff`, and keeps `request.extensions["sent"]` true to the facts
    meanwhile. `request.extensions["may_leave"]`, if there is one, is asked just before the first byte.
    `keepalive` is seconds of idleness; `fresh` never reuses a connection, since a stale one is what makes the fate of
    a POST unknown. `tls` replaces the system's authorities.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        keepalive: float = 15.0,
        limit_per_host: int = 0,
        fresh: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._keepalive = None if fresh else keepalive
        self._limit_per_host = limit_per_host
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self._limit_per_host,
            keepalive_timeout=self._keepalive,
            force_close=self._keepalive is None,
            resolver=_GuardedResolver(self._guard),
            socket_factory=self._guard.open_socket,
            ssl=self._tls or True,
        )
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_sent)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
            trace_configs=[trace],
        )
        # aiohttp sends a GET, PUT or DELETE again by itself when the connection breaks; one send is one request here.
        session._retry_connection = False
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sent"] = False
        check_form(request.url)
        if self._session is None:
            self._session = self._open()
        body = await request.aread()
        try:
            answer = await self._session.request(
                request.method,
                yarl.URL(str(request.url), encoded=True),
                # httpx frames a stream of unknown length as chunked; here the body is whole and aiohttp counts it.
                headers=[(k.decode(), v.decode()) for k, v in request.headers.raw if k.lower() != b"transfer-encoding"],
                data=io.BytesIO(body) if len(body) > _AT_ONCE else body or None,
                allow_redirects=False,
                trace_request_ctx=request,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(request, error) from None
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(request, answer))

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
