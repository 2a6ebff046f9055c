"""One HTTP/1.1 connection with bounds.

Requests are parsed one at a time. What a client sends behind a request (pipelining) is held, as
bytes and up to the size of a head, until the response is complete. To stop at the end of a request,
the parser is fed in pieces: a head, and a chunked body with its trailers, end in an empty line, so
no piece goes beyond one; the length of other bodies is known.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any

import httptools
import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from orchestrator.foundation.settings.http import Http
from orchestrator.ingress import refusal
from orchestrator.ingress.connections import Connections
from orchestrator.ingress.exchange import Exchange
from orchestrator.ingress.refusal import Refused

log = structlog.get_logger()

_EMPTY_LINE = b"\r\n\r\n"
#: Seconds for a client to read the end of its answer and close (lingering close).
_LINGER = 5.0
#: Seconds for the rest of a body after its response.
_DRAIN = 30.0


class Phase(Enum):
    """What a connection waits for."""

    OPENED = auto()  # the first byte of all
    IDLE = auto()  # the first byte of another request
    HEAD = auto()  # the rest of a head
    BODY = auto()  # the rest of a body
    RESPONSE = auto()  # the application; more requests are held
    DRAIN = auto()  # the rest of a body whose response is complete
    LINGER = auto()  # the end of the connection; what comes is dropped


_BETWEEN = (Phase.OPENED, Phase.IDLE)


class HttpProtocol(HttpToolsProtocol):
    """A connection of the service. Its limits are settings; `Phase` has its states."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Http,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._registry = connections
        self._service, self.app = self.app, self._serve
        self._exchange: Exchange
        self._phase, self._since = Phase.OPENED, 0.0
        self._is_half_closed = False
        self._held = b""
        #: The last bytes before the next piece, where an empty line may have begun.
        self._tail = b""
        #: Bytes of the head, and of what stands between two pieces of a chunked body.
        self._head, self._framing, self._fields = 0, 0, 0
        #: Content-Length, what is missing of it, and the bytes of the body so far.
        self._length, self._left, self._received = 0, 0, 0
        self._unread: tuple[float, int] | None = None

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._registry.admit(self, self.loop):
            self._enter(Phase.OPENED)
        else:
            self._phase = Phase.LINGER
            transport.write(refusal.FULL.response())
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._registry.remove(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a complete request although its client sends nothing more."""
        self._is_half_closed = True
        if self._phase is Phase.RESPONSE:
            self._exchange.half_close()
            return True
        if self._phase in (Phase.HEAD, Phase.BODY):
            self._refuse(refusal.CUT_SHORT)
        return False

    def shutdown(self) -> None:
        """Close, after the response if there is a request."""
        if self._phase in (Phase.BODY, Phase.RESPONSE):
            self.cycle.keep_alive = self.cycle.response_started
            self._exchange.closes = True
        else:
            self.transport.close()

    def evict(self) -> None:
        """Close at once; no complete head has arrived."""
        self.transport.abort()

    def expire(self, now: float) -> None:
        """Close if the client takes too long for what the connection waits for."""
        limits, waited = self._limits, now - self._since
        if self._is_unread(now):
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._phase is Phase.BODY:
            self._expire_body(now)
        elif self._phase is Phase.HEAD:
            if waited > limits.head_timeout:
                self._refuse(refusal.SLOW_HEAD)
        elif (
            self._phase is not Phase.RESPONSE
            and waited
            > {
                Phase.OPENED: limits.head_timeout,
                Phase.IDLE: limits.idle_timeout,
                Phase.DRAIN: _DRAIN,
                Phase.LINGER: _LINGER,
            }[self._phase]
        ):
            self.transport.close()

    def _expire_body(self, now: float) -> None:
        """Refuse a body that comes too slowly. Its time grows with what has come."""
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            # The application takes its time, not the client.
            self._since, self._received = now, 0
        allowed = self._limits.body_timeout + self._received / self._limits.body_rate
        if now - self._since > allowed:
            self._refuse(refusal.SLOW_BODY)

    def _is_unread(self, now: float) -> bool:
        """True if the client has read nothing of what it is sent for `write_timeout`."""
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._unread = None
            return False
        left = self.transport.get_write_buffer_size()
        since, before = self._unread or (now, left + 1)
        if left < before:
            self._unread = now, left
            return False
        return now - since > self._limits.write_timeout

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self.loop.time()
        if phase in _BETWEEN:
            self._registry.idle(self)
        elif phase is Phase.BODY:
            self._registry.used(self)

    # -- bytes

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.RESPONSE:
            self._hold(data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        at = 0
        while at < len(data) and self._phase is not Phase.LINGER:
            if self._phase is Phase.RESPONSE:
                self._hold(data[at:])
                return
            piece = data[at : self._end(data, at)]
            at += len(piece)
            try:
                self._feed(piece)
            except Refused as refused:
                self._refuse(refused)

    def _end(self, data: bytes, at: int) -> int:
        """Return the end of the next piece: an end of a request is the end of a piece."""
        if self._left:
            return at + self._left
        if self._tail:
            found = (self._tail + data[at : at + 3]).find(_EMPTY_LINE)
            if found >= 0:
                return at + found + len(_EMPTY_LINE) - len(self._tail)
        found = data.find(_EMPTY_LINE, at)
        return len(data) if found < 0 else found + len(_EMPTY_LINE)

    def _feed(self, piece: bytes) -> None:
        """Parse a piece. Raises `Refused`."""
        if self._phase in _BETWEEN:
            self._enter(Phase.HEAD)
            self.url, self._head, self._framing, self._fields = b"", 0, 0, 0
        if self._phase is Phase.HEAD:
            self._head += len(piece)
            if self._head > self._limits.head_bytes:
                line = self.url if self._fields or self._head > len(piece) else piece
                is_line = len(line.partition(b"\r\n")[0]) > self._limits.head_bytes // 2
                raise refusal.LONG_URL if is_line else refusal.LARGE_HEAD
        self._framing += len(piece)
        self._tail = b"" if piece.endswith(_EMPTY_LINE) else (self._tail + piece[-3:])[-3:]
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError as error:
            why = error.__context__
            raise why if isinstance(why, Refused) else refusal.MALFORMED from None
        if self._framing > self._limits.head_bytes:
            raise refusal.LARGE_HEAD

    def _hold(self, data: bytes) -> None:
        """Keep what a client pipelines. Too much is dropped, and the connection closed."""
        self.flow.pause_reading()
        self._held += data
        if len(self._held) > self._limits.head_bytes:
            self._held = b""
            self._exchange.closes = True

    def _ignore_upgrade(self) -> None:
        """Parse the head again without its offer of another protocol (RFC 9110, section 7.8).

        The parser takes every offer: for it the rest of the connection is no HTTP.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise refusal.NO_TUNNEL
        line = b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())
        kept = [
            b"%b: %b" % (name, _without_upgrade(value) if name == b"connection" else value)
            for name, value in self.headers
            if name != b"upgrade"
        ]
        self.parser = httptools.HttpRequestParser(self)
        self._fields = 0
        self.parser.feed_data(b"\r\n".join((line, *kept, b"", b"")))

    # -- what the parser finds

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._length = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > self._limits.head_fields:
            raise refusal.LARGE_HEAD
        if self._phase is not Phase.HEAD:
            # A trailer: no call reads any, and it must not pass for a header.
            return
        super().on_header(name, value)
        if len(name) == len(b"content-length") and name.lower() == b"content-length":
            self._length = int(value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self._exchange = Exchange(self._service, self.cycle)
        self._left, self._received, self._framing = self._length, 0, 0
        self._enter(Phase.BODY)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._exchange(scope, receive, send)

    def on_body(self, body: bytes) -> None:
        self._left = max(0, self._left - len(body))
        self._received += len(body)
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if self._phase is Phase.BODY:
            self._enter(Phase.RESPONSE)
        elif self._phase is Phase.DRAIN:
            self._enter(Phase.IDLE)

    # -- the end of a response

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        is_whole = self._phase is Phase.RESPONSE
        if self._exchange.closes or (self._is_half_closed and not self._held):
            self._close(is_whole)
            return
        self.flow.resume_reading()
        if not is_whole:
            self._enter(Phase.DRAIN)
            return
        self._enter(Phase.IDLE)
        held, self._held = self._held, b""
        self._parse(held)
        if self._is_half_closed and self._phase is not Phase.RESPONSE:
            self.eof_received()
            self.transport.close()

    def _refuse(self, refused: Refused) -> None:
        """Answer with an error instead of the application, and close."""
        log.info("a request is refused", status=int(refused.status), why=str(refused))
        if self._phase in (Phase.BODY, Phase.RESPONSE):
            self._exchange.disconnect()
        if self._phase is Phase.HEAD or not self.cycle.response_started:
            self.transport.write(refused.response())
        self._close(False)

    def _close(self, is_whole: bool) -> None:
        """Close; if the client may still be sending, only when it has read its answer.

        Closing with unread data resets the connection, and the client loses the response.
        """
        self._enter(Phase.LINGER)
        if self._is_half_closed or (is_whole and not self.flow.read_paused):
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()


def _without_upgrade(connection: bytes) -> bytes:
    """Return the value of `Connection` without the token that offers an upgrade."""
    tokens = connection.split(b",")
    return b",".join(token for token in tokens if token.strip().lower() != b"upgrade")
