"""An httpx transport on aiohttp's connections, with the address policy at the socket.

Requests and responses are httpx's; aiohttp connects, keeps connections alive and parses.
Why not httpx's own pool: it carries 250 to 1,500 requests/s and does not survive cancellation;
aiohttp's connections carry about 10,000. Why not aiohttp's session: two thirds of its cost are
cookies, redirects, retries, proxies and signals. So this file uses the connector and the protocol
below the session, which are internal to aiohttp: its version is pinned.

Every failure is either `NotSent`, no byte of the request left, or `CutOff`, some may have.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
import yarl
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError

from orchestrator.egress.address_policy import AddressPolicy, check_form
from orchestrator.foundation.errors import Blocked, CutOff, NotSent, TooLate


class _GuardedResolver(aiohttp.ThreadedResolver):
    """Refuses a name with a forbidden address: a private next to a public one is an attack."""

    def __init__(self, policy: AddressPolicy) -> None:
        super().__init__()
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        for entry in found:
            self._policy.check(entry["host"], port)
        return found


#: Seconds for one address, TCP and TLS handshake together.
CONNECT_TIMEOUT: Final = 10.0
#: Origins whose aiohttp request is cached.
_ORIGINS: Final = 1024
#: Kept connections in a row that may turn out to be unusable.
_STALE: Final = 3

# First match wins, so OSError, the base of most of them, is last.
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
    (HttpProcessingError, "bad_response"),
    (OSError, "connection_reset"),
]
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)


def _failure(request: httpx.Request, error: Exception) -> NotSent | CutOff:
    """Return an error of aiohttp as ours. Its own text may hold a URL, and that a secret."""
    host, sent = request.url.host, request.extensions["sent"]
    if isinstance(error, aiohttp.InvalidURL):
        return Blocked(f"{host}: not a host that can be reached")
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError) and not sent:
        return NotSent(f"{host}: the request cannot be written", kind="invalid_request")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    kind = next(
        (word for match, word in (_AFTER if sent else _BEFORE) if isinstance(cause, match)), None
    )
    why = kind or type(error).__name__ if cause is error else cause
    return (CutOff if sent else NotSent)(f"{host}: {why}", kind=kind)


def _send(request: httpx.Request, written: bytes, transport: asyncio.Transport | None) -> None:
    """Write the request to a connected socket. What fails before was not sent; after, it may be."""
    # A process may have stood still while it connected.
    if (may_leave := request.extensions.get("may_leave")) and not may_leave():
        raise TooLate(f"{request.url.host}: the request may no longer leave")
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    request.extensions["sent"] = True
    transport.write(written)


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """The response body as received. Closing before the end closes the connection too."""

    def __init__(
        self, request: httpx.Request, connection: Connection, rest: aiohttp.StreamReader
    ) -> None:
        self._request = request
        self._connection = connection
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._rest.readany()
        except _FAILURES as error:
            raise _failure(self._request, error) from None
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        transport, protocol = self._connection.transport, self._connection.protocol
        if (
            self._rest.at_eof()
            and protocol is not None
            and transport is not None
            and not transport.get_write_buffer_size()
        ):
            # Without a parser, aiohttp stops reading an idle connection after one buffer. With it,
            # every response without a request would be read and queued.
            protocol._parser = None
            self._connection.release()
        else:
            _drop(self._connection)


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport without redirects, cookies, proxies, decompression or retries.

    Raises `Blocked`, `TooLate`, `NotSent` or `CutOff`. `request.extensions["sent"]` is always up to
    date. `request.extensions["may_leave"]`, if set, is called just before the first byte.
    `keepalive` is seconds of idleness. `fresh` never reuses a connection: with a stale one it is
    unknown whether a POST arrived. `tls` replaces the authorities of the system.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        keepalive: float = 15.0,
        limit_per_host: int = 0,
        fresh: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._keepalive = None if fresh else keepalive
        self._limit_per_host = limit_per_host
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT)
        self._connector: aiohttp.TCPConnector | None = None
        self._origin = lru_cache(_ORIGINS)(_origin)

    def _open(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self._limit_per_host,
            keepalive_timeout=self._keepalive,
            force_close=self._keepalive is None,
            resolver=_GuardedResolver(self._policy),
            socket_factory=self._policy.open_socket,
            ssl=self._tls or True,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sent"] = False
        check_form(request.url)
        body = await request.aread()
        try:
            written = serialize_request(request, body)
            connection = await self._connect(request.url)
            try:
                _send(request, written, connection.transport)
                status, headers, rest = await _read_head(
                    connection, bodiless=request.method == "HEAD"
                )
            except BaseException:
                _drop(connection)
                raise
        except _FAILURES as error:
            raise _failure(request, error) from None
        return httpx.Response(status, headers=headers, stream=_Body(request, connection, rest))

    async def _connect(self, url: httpx.URL) -> Connection:
        if self._connector is None:
            self._connector = self._open()
        origin = self._origin(url.scheme, url.netloc)
        for _ in range(_STALE):
            connection = await self._connector.connect(origin, [], self._timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            # The other side sent bytes unasked: they would pass for the response to this request.
            _drop(connection)
        raise ConnectionResetError

    async def aclose(self) -> None:
        connector, self._connector = self._connector, None
        self._origin.cache_clear()
        if connector is not None:
            await connector.close()


def _origin(scheme: str, netloc: bytes) -> aiohttp.ClientRequest:
    """Return the request by which aiohttp's connector knows an origin."""
    url = yarl.URL(f"{scheme}://{netloc.decode()}/", encoded=True)
    return aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop())


def _drop(connection: Connection) -> None:
    """Abort a connection: a graceful close would wait for a peer that reads nothing."""
    if connection.transport is not None:
        connection.transport.abort()
    connection.close()


async def _read_head(
    connection: Connection, *, bodiless: bool
) -> tuple[int, tuple[tuple[bytes, bytes], ...], aiohttp.StreamReader]:
    """Return status, headers and body of the response. Informational responses are skipped."""
    protocol = connection.protocol
    assert protocol is not None
    protocol.set_response_params(skip_payload=bodiless, read_until_eof=True, auto_decompress=False)
    while True:
        head, rest = await protocol.read()
        if head.code >= 200 or head.code == 101:
            return head.code, head.raw_headers, rest


_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


def serialize_request(request: httpx.Request, body: bytes) -> bytes:
    """Return the request as bytes: its own headers, and those that HTTP/1.1 needs.

    The body is complete, so Content-Length is set even where httpx made it a stream. A response may
    not be compressed. Raises `ValueError` if a header holds a line break (request smuggling).
    """
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    names = set()
    for name, value in request.headers.raw:
        lower = name.lower()
        names.add(lower)
        if lower not in _FRAMING:
            lines.append(b"%b: %b" % (name, value))
    if b"host" not in names:
        lines.append(b"Host: " + request.url.netloc)
    if b"accept-encoding" not in names:
        lines.append(b"Accept-Encoding: identity")
    if body or names & _FRAMING:
        lines.append(b"Content-Length: %d" % len(body))
    breaks = len(lines) + 1
    head = b"\r\n".join((*lines, b"", b""))
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ValueError("a line of the request has a break in it")
    return head + body
