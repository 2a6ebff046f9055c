"""One HTTP/1.1 connection with bounds.

Requests are parsed one at a time. What a client sends behind a request (pipelining) is held, as
bytes and up to the size of a head, until the response is complete. To stop at the end of a request,
the parser is fed in pieces: a head, and a chunked body with its trailers, end in an empty line, so
no piece goes beyond one; the length of other bodies is known.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from orchestrator.foundation.settings.http import Http
from orchestrator.ingress import refusal
from orchestrator.ingress.connections import Connections
from orchestrator.ingress.exchange import Exchange
from orchestrator.ingress.phase import BETWEEN, UNUSED, Phase
from orchestrator.ingress.refusal import Refusal, Refused
from orchestrator.ingress.upgrade import without_upgrade

log = structlog.get_logger()

_EMPTY_LINE = b"\r\n\r\n"
#: A chunked body may hold this many empty lines, and one more for each `_PIECE` bytes. Each costs
#: a call of the parser, and a body of nothing else would block the event loop.
_PIECES = 1000
_PIECE = 16
#: Bytes of sizes and extensions for each byte in chunks: a chunk of one byte has six.
_AROUND = 8
_SLOW = {Phase.HEAD: refusal.SLOW_HEAD, Phase.BODY: refusal.SLOW_BODY}


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
        self._service = self.app
        self._exchange: Exchange
        self._phase, self._since = Phase.OPENED, 0.0
        self._is_half_closed = False
        self._held, self._has_dropped = b"", False
        #: The last bytes before the next piece, where an empty line may have begun.
        self._tail = b""
        #: Bytes since the last byte of a body, and lines of the head.
        self._framing, self._lines = 0, 0
        #: Bytes of the body so far, and those missing if its length is known.
        self._received, self._left = 0, 0
        #: Pieces of a chunked body that ended in an empty line.
        self._pieces = 0
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
        if self._is_unread(now):
            self.transport.abort()
            return
        patience = self._registry.patience[self._phase]
        if self._phase is Phase.BODY:
            if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                # The application takes its time, not the client.
                self._since, self._progress = now, 0
            patience += self._progress / self._limits.body_rate
        if now - self._since <= patience or self.transport.is_closing():
            return
        if self._phase in _SLOW:
            self._refuse(_SLOW[self._phase])
        else:
            self.transport.close()

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
        if phase in UNUSED:
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
            if self._phase in BETWEEN and data[at] in b"\r\n":
                # Empty lines before a request are ignored (RFC 9112, section 2.2).
                data, at = data[at:].lstrip(b"\r\n"), 0
                continue
            piece = data[at : self._end(data, at)]
            at += len(piece)
            try:
                self._feed(piece)
            except Refused as refused:
                self._refuse(refused.refusal)

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
        if self._left:
            self._execute(piece)
            return
        if self._phase in BETWEEN:
            self._phase, self._since = Phase.HEAD, self.loop.time()
            self.url, self._framing, self._lines = b"", 0, 0
        self._framing += len(piece)
        last = (self._tail + piece[-4:])[-4:]
        self._tail = b"" if last == _EMPTY_LINE else last[-3:]
        if self._phase is Phase.HEAD:
            self._check_head(piece)
            self._execute(piece)
        else:
            self._chunked += len(piece)
            self._execute(piece)
            self._check_chunks()

    def _check_head(self, piece: bytes) -> None:
        """Raise `Refused` if a head is too large with this piece."""
        in_line = not self._lines
        self._lines += piece.count(b"\n")
        if self._framing > self._limits.head_bytes:
            line = len(self.url) + len(piece.partition(b"\n")[0])
            is_long = in_line and line > self._limits.head_bytes // 2
            raise Refused(refusal.LONG_URL if is_long else refusal.LARGE_HEAD)
        # The request line, and the empty line.
        if self._lines > self._limits.head_fields + 2:
            raise Refused(refusal.LARGE_HEAD)

    def _check_chunks(self) -> None:
        """Raise `Refused` for too much around the chunks of a body, trailers among it."""
        self._pieces += not self._tail
        around = self._chunked - self._received
        if (
            self._framing > self._limits.head_bytes
            or around > self._limits.head_bytes + _AROUND * self._received
            or len(self.headers) > self._limits.head_fields
            or self._pieces > _PIECES + self._received // _PIECE
        ):
            raise Refused(refusal.LARGE_HEAD)

    def _execute(self, piece: bytes) -> None:
        """Run the parser. Raises `Refused`."""
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except httptools.HttpParserError:
            raise Refused(refusal.MALFORMED) from None

    def _ignore_upgrade(self) -> None:
        """Parse the head again, without the offer of another protocol. Raises `Refused`.

        The parser takes every offer: for it the rest of the connection is the other protocol.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise Refused(refusal.NO_TUNNEL)
        head = without_upgrade((method, self.url, self.parser.get_http_version()), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self._execute(head)

    def _hold(self, data: bytes) -> None:
        """Keep what a client pipelines. Too much is dropped, and the connection closed."""
        self.flow.pause_reading()
        self._held += data
        if len(self._held) > self._limits.head_bytes:
            self._held, self._has_dropped = b"", True
            self._exchange.closes = True

    # -- what the parser finds

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.app = self._exchange = Exchange(self._service)
        super().on_headers_complete()
        self._exchange.begin(self.cycle)
        self._left = 0
        for name, value in self.headers:
            if name == b"content-length":
                self._left = int(value)
        self._received, self._framing, self._pieces, self._chunked = 0, 0, 0, 0
        self._progress = 0
        # Trailers go here: no call reads any, and none must pass for a header.
        self.headers = []
        self._enter(Phase.BODY)

    def on_body(self, body: bytes) -> None:
        size = len(body)
        self._received += size
        self._progress += size
        if self._left:
            self._left -= size
        self._framing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if self._phase is Phase.BODY:
            self._phase = Phase.RESPONSE
        elif self._phase is Phase.DRAIN:
            self._enter(Phase.IDLE)

    # -- the end of a response

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        is_whole = self._phase is Phase.RESPONSE
        if self._exchange.closes or (self._is_half_closed and not self._held):
            self._close(is_whole and not self._held and not self._has_dropped)
            return
        self.flow.resume_reading()
        if not is_whole:
            self._enter(Phase.DRAIN)
            return
        self._enter(Phase.IDLE)
        if self._held:
            held, self._held = self._held, b""
            self._parse(held)
        if self._is_half_closed and self._phase is not Phase.RESPONSE:
            self.eof_received()
            self.transport.close()

    def _refuse(self, error: Refusal) -> None:
        """Answer with an error instead of the application, and close."""
        log.info("a request is refused", status=int(error.status), why=error.detail)
        if self._phase in (Phase.BODY, Phase.RESPONSE):
            self._exchange.disconnect()
        if self._phase is Phase.HEAD or not self.cycle.response_started:
            self.transport.write(error.response())
        self._close(False)

    def _close(self, is_read: bool) -> None:
        """Close; if not all that the client sends is read, only when it has read its answer.

        Closing with unread data resets the connection, and the client loses the response.
        """
        self._enter(Phase.LINGER)
        if is_read or self._is_half_closed:
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
