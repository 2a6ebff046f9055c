"""An httpx transport on aiohttp's connections, with the address policy at the socket.

Requests and responses are httpx's; aiohttp connects and keeps connections alive, `httptools`
parses. Why not httpx's own pool: it carries 250 to 1,500 requests/s and does not survive
cancellation; aiohttp's connections carry about 10,000. Why not aiohttp's session: two thirds of its
cost are cookies, redirects, retries, proxies and signals. So this file uses the connector below the
session, which is internal to aiohttp: its version is pinned.

Every failure is either `NotSent`, no byte of the request left, or `CutOff`, some may have.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache, partial
from typing import Any, Final, cast

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection

from orchestrator import __version__
from orchestrator.egress.address_policy import AddressPolicy, check_form
from orchestrator.egress.failures import failure
from orchestrator.egress.resolver import GuardedResolver
from orchestrator.egress.response_protocol import BrokenResponse, ResponseProtocol
from orchestrator.foundation.authorities import client_context
from orchestrator.foundation.errors import TooLate

#: Seconds for one address, TCP and TLS handshake together.
CONNECT_TIMEOUT: Final = 10.0
#: Bytes of a body, unless `request.extensions["body_cap"]` has another number.
BODY_CAP: Final = 64 * 1024
#: Firewalls of many gateways refuse a request without one.
_USER_AGENT: Final = f"User-Agent: orchestrator/{__version__}".encode()
#: Origins whose aiohttp request is cached.
_ORIGINS: Final = 1024
#: Connections that one request may find closed.
_STALE: Final = 3
#: What `failure` names.
_FAILURES: Final = (aiohttp.ClientError, BrokenResponse, OSError, ValueError)


class _Resolver(GuardedResolver, AbstractResolver):
    """The resolver as aiohttp knows it."""


def _send(request: httpx.Request, written: bytes, transport: asyncio.Transport | None) -> None:
    """Write the request to a connected socket. What fails before was not sent; after, it may be."""
    # A process may have stood still while it connected.
    if (may_leave := request.extensions.get("may_leave")) and not may_leave():
        raise TooLate(f"{request.url.host}: the request may no longer leave")
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    request.extensions["sent"] = True
    transport.write(written)


async def _stream(request: httpx.Request, protocol: ResponseProtocol) -> None:
    """Write the body chunk by chunk, until a response begins."""
    assert isinstance(request.stream, httpx.AsyncByteStream)
    async for chunk in request.stream:
        if not await protocol.write(chunk):
            return


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """The response body as received. Closing before the end closes the connection too."""

    def __init__(
        self, request: httpx.Request, connection: Connection, protocol: ResponseProtocol
    ) -> None:
        self._request = request
        self._connection = connection
        self._protocol = protocol

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._protocol.read()
        except _FAILURES as error:
            raise failure(self._request, error) from None
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        if self._protocol.end():
            self._connection.release()
        else:
            _drop(self._connection)


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport without redirects, cookies, proxies or decompression.

    Raises `Blocked`, `TooLate`, `NotSent` or `CutOff`. `request.extensions["sent"]` is always up to
    date. `request.extensions["may_leave"]`, if set, is called just before the first byte.
    `request.extensions["status"]` is the status of a response that was canceled within its head.
    With `request.extensions["whole_head"]`, a response whose head is broken is `CutOff`; without,
    its status and the fields before the break are returned.

    Connections are kept for `keepalive` idle seconds. A request on one that turns out to be closed,
    before a byte of the response, is sent again on another (RFC 9110, section 9.2.2): here go
    queries, and deliveries, which are repeated after any lost response. `fresh` is for requests
    that may not arrive twice: it never reuses a connection and never sends again. `tls` verifies
    servers; the default trusts the authorities of the system. Raises `ConfigError` if a variable
    names others that cannot be used.
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
        self._tls = tls or client_context()
        self._timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT)
        self._connector: aiohttp.TCPConnector | None = None
        self._origin = lru_cache(_ORIGINS)(_origin)

    def _open(self) -> aiohttp.TCPConnector:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self._limit_per_host,
            keepalive_timeout=self._keepalive,
            force_close=self._keepalive is None,
            use_dns_cache=False,
            resolver=_Resolver(self._policy),
            socket_factory=self._policy.open_socket,
            ssl=self._tls,
        )
        connector._factory = cast(Any, partial(ResponseProtocol, asyncio.get_running_loop()))
        return connector

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sent"] = False
        check_form(request.url)
        # A stream of known length is written while it is read, and never held as a whole.
        is_read = isinstance(request.stream, httpx.ByteStream)
        is_stream = not is_read and "content-length" in request.headers
        body = b"" if is_stream else await request.aread()
        try:
            written = serialize_request(request, body, is_stream=is_stream)
            # A stream is read once: it cannot be sent again.
            for left in reversed(range(1 if is_stream else _STALE)):
                connection = await self._connect(request.url)
                protocol = cast(ResponseProtocol, connection.protocol)
                try:
                    return await _exchange(request, written, connection, protocol)
                except (OSError, BrokenResponse) as error:
                    if not (left and _was_closed(protocol, error)):
                        raise
                    request.extensions["sent"] = False
        except _FAILURES as error:
            raise failure(request, error) from None
        raise AssertionError("the last connection returns or raises")

    async def _connect(self, url: httpx.URL) -> Connection:
        if self._connector is None:
            self._connector = self._open()
        origin = self._origin(url.scheme, url.netloc)
        return await self._connector.connect(origin, [], self._timeout)

    async def aclose(self) -> None:
        connector, self._connector = self._connector, None
        self._origin.cache_clear()
        if connector is not None:
            await connector.close()


async def _exchange(
    request: httpx.Request, written: bytes, connection: Connection, protocol: ResponseProtocol
) -> httpx.Response:
    """Send a request and return the head of its response."""
    cap: int = request.extensions.get("body_cap", BODY_CAP)
    try:
        protocol.begin(bodiless=request.method == "HEAD", body_cap=cap)
        _send(request, written, protocol.transport)
        if not isinstance(request.stream, httpx.ByteStream):
            await _stream(request, protocol)
        whole = request.extensions.get("whole_head", False)
        status, fields = await protocol.head(whole=whole)
    except BaseException:
        if (known := protocol.status) is not None:
            request.extensions["status"] = known
        _drop(connection)
        raise
    return httpx.Response(status, headers=fields, stream=_Body(request, connection, protocol))


def _was_closed(protocol: ResponseProtocol, error: OSError | BrokenResponse) -> bool:
    """True if a kept connection was closed before the response began."""
    if isinstance(error, BrokenResponse):
        closed = error.kind == "disconnected"
    else:
        closed = not isinstance(error, TimeoutError)
    return closed and protocol.is_reused and not protocol.has_answer


def _origin(scheme: str, netloc: bytes) -> aiohttp.ClientRequest:
    """Return the request by which aiohttp's connector knows an origin."""
    url = yarl.URL(f"{scheme}://{netloc.decode()}/", encoded=True)
    return aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop())


def _drop(connection: Connection) -> None:
    """Abort a connection: a graceful close would wait for a peer that reads nothing."""
    if connection.transport is not None:
        connection.transport.abort()
    connection.close()


_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


def serialize_request(request: httpx.Request, body: bytes, *, is_stream: bool = False) -> bytes:
    """Return the request as bytes: its own headers, our User-Agent, and those that HTTP/1.1 needs.

    A body that is a stream follows later, and its Content-Length is the request's own. Any other is
    complete, and its length is set here. A response may not be compressed. Raises `ValueError` if a
    header holds a line break (request smuggling).
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
    if b"user-agent" not in names:
        lines.append(_USER_AGENT)
    if b"accept-encoding" not in names:
        lines.append(b"Accept-Encoding: identity")
    if is_stream:
        lines.append(b"Content-Length: %d" % int(request.headers["content-length"]))
    elif body or names & _FRAMING:
        lines.append(b"Content-Length: %d" % len(body))
    breaks = len(lines) + 1
    head = b"\r\n".join((*lines, b"", b""))
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ValueError("a line of the request has a break in it")
    return head + body
