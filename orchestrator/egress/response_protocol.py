"""One HTTP/1.1 connection: parses the response to one request at a time, within limits.

Limits hold while bytes arrive, so a peer that sends interim responses, header fields, chunk
extensions or tiny chunks without end costs one buffer. llhttp parses (`httptools`, the parser of
uvicorn). The interface to aiohttp's connection pool is that of its `ResponseHandler`.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools

#: Bytes of all response heads of one exchange, interim ones included; fields of an exchange.
HEAD_CAP: Final = 64 * 1024
MAX_FIELDS: Final = 256
#: Interim (1xx) responses before the final one.
MAX_INTERIM: Final = 8
#: Seconds after which a connection is not used again: names move to other addresses.
MAX_AGE: Final = 60.0
#: Bytes that wait for their reader, after which the socket is not read.
_HIGH_WATER: Final = 64 * 1024
#: Bytes of body and framing that may arrive before any body does.
_FRAMING: Final = 256 << 10
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200

Fields = list[tuple[bytes, bytes]]


class BrokenResponse(Exception):
    """The response ended before its end, or breaks a limit or the grammar. `kind`: why."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class ResponseProtocol(asyncio.Protocol):
    """A client connection. `begin` prepares an exchange, `head` and `read` return its response."""

    transport: asyncio.Transport | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._expires = loop.time() + MAX_AGE
        self._closed: asyncio.Future[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        #: True once a response on this connection was read to its end.
        self.is_reused = False
        self._is_spent = False
        #: True while the other side reads more slowly than is written.
        self._is_held = False
        self._reset(bodiless=False, body_cap=0)

    def _reset(self, *, bodiless: bool, body_cap: int) -> None:
        self._bodiless = bodiless
        # Chunks of a few bytes, or with long extensions, are more framing than body. `on_body`
        # makes room for as much framing as there is body.
        self._body_room = min(2 * body_cap, _FRAMING) + HEAD_CAP
        self._room = HEAD_CAP
        self._interim = self._field_count = 0
        self._status: int | None = None
        self._has_head = self._is_complete = self._has_length = self._is_paused = False
        self._fields: Fields = []
        self._body = bytearray()
        self._error: Exception | None = None
        #: True once a byte of the response has arrived.
        self.has_answer = False

    # -- the exchange

    def begin(self, *, bodiless: bool, body_cap: int) -> None:
        """Expect the response to one request. `bodiless`: the request is a HEAD."""
        self._reset(bodiless=bodiless, body_cap=body_cap)
        self._parser = parser = httptools.HttpResponseParser(self)
        # As lenient as browsers where it cannot change the framing of one response.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )

    async def write(self, chunk: bytes) -> bool:
        """Write a piece of a streamed body, no faster than the other side reads it.

        Return False, and write nothing, once a response has begun: the peer reads no more, and
        the connection carries no other exchange. Raises `OSError` if it has ended.
        """
        while self._is_held and not self.has_answer and self.transport is not None:
            await self._wait()
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError
        if self.has_answer:
            self._is_spent = True
            return False
        self.transport.write(chunk)
        return True

    @property
    def status(self) -> int | None:
        """The status of the final response, as soon as its status line has arrived."""
        if self._status is None and self._parser is not None:
            # llhttp sets it with the third digit; a fourth is an error of its own.
            found = self._parser.get_status_code()
            if found >= _OK or found == _SWITCHING_PROTOCOLS:
                self._status = found
        return self._status

    async def head(self, *, whole: bool = False) -> tuple[int, Fields]:
        """Return status and fields of the final response.

        A status line whose head is broken counts, unless the head has to be `whole`: `read` then
        raises the error. Raises `BrokenResponse` or `OSError` if there is none.
        """
        while not self._has_head and self._error is None:
            await self._wait()
        if (status := self.status) is None or (whole and not self._has_head):
            assert self._error is not None
            raise self._error
        return status, self._fields

    async def read(self) -> bytes:
        """Return what has arrived of the body, empty at its end. Raises as `head` does."""
        while not self._body and not self._is_complete:
            if self._error is not None:
                raise self._error
            await self._wait()
        chunk = bytes(self._body)
        self._body.clear()
        if self._is_paused:
            self._is_paused = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
        return chunk

    def end(self) -> bool:
        """End the exchange. Return whether the connection may carry another one."""
        self._parser, self.is_reused = None, True
        idle = self._is_complete and not self._body and self._error is None
        return idle and self.transport is not None and not self.transport.get_write_buffer_size()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- bytes that arrive

    def data_received(self, data: bytes) -> None:
        """Parse, within the room that the head or the body has left."""
        if self._parser is None or self._is_complete:
            # Nothing was asked: it would pass for the response to the next request.
            self._spend()
            return
        self.has_answer = True
        rest = memoryview(data)
        while rest and self._is_open():
            if not self._room:
                self._fail(BrokenResponse("too_large"))
                break
            part, rest = rest[: self._room], rest[self._room :]
            self._room -= len(part)
            self._parse(part)
        if rest:
            self._spend()
        self._pause()
        self._wake()

    def _is_open(self) -> bool:
        return self._error is None and not self._is_complete

    def _pause(self) -> None:
        over = len(self._body) > _HIGH_WATER and not self._is_paused
        if over and self.transport is not None and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _parse(self, part: memoryview) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            # A 101, which was not asked for: what follows is not HTTP.
            self._is_complete = self._is_spent = True
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, _Surplus):
                limit = cause if isinstance(cause, BrokenResponse) else None
                self._fail(limit or BrokenResponse("bad_response"))
        except httptools.HttpParserInvalidStatusError:
            self._parser = None
            self._fail(BrokenResponse("bad_response"))
        except httptools.HttpParserError:
            self._fail(BrokenResponse("bad_response"))

    def _fail(self, error: Exception) -> None:
        if self._error is None and not self._is_complete:
            self._error = error
        self._spend()
        self._wake()

    def _spend(self) -> None:
        self._is_spent = True
        if self.transport is not None:
            self.transport.abort()

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._is_spent = True
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_count += 1
        if self._field_count > MAX_FIELDS:
            raise BrokenResponse("too_large")
        if self._has_head:
            # A trailer.
            return
        self._fields.append((name, value.rstrip(b" \t")))
        name = name.lower()
        if name == b"content-length" or (
            name == b"transfer-encoding" and b"chunked" in value.lower()
        ):
            self._has_length = True

    def on_headers_complete(self) -> None:
        if self.status is None:
            self._interim += 1
            self._fields.clear()
            self._has_length = False
            if self._interim > MAX_INTERIM:
                raise BrokenResponse("too_many_interim_responses")
            return
        assert self._parser is not None
        self._has_head, self._room = True, self._body_room
        if not self._parser.should_keep_alive():
            self._is_spent = True
        if self._bodiless:
            self._is_complete = self._is_spent = True
            raise _Surplus

    def on_body(self, piece: bytes) -> None:
        self._body += piece
        self._room += 2 * len(piece)

    def on_message_complete(self) -> None:
        if self._status is not None:
            self._is_complete = True

    # -- the connection, as aiohttp's pool sees it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses.
        self.transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        """Hold back a streamed body."""
        self._is_held = True

    def resume_writing(self) -> None:
        """Let a streamed body flow."""
        self._is_held = False
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """End the response: complete if its length is that of the connection."""
        self.transport, self._is_spent = None, True
        if self._parser is not None:
            if self._has_head and not self._has_length and error is None:
                self._is_complete = True
            elif self._error is None and not self._is_complete:
                self._error = error or BrokenResponse("disconnected")
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._wake()

    @property
    def should_close(self) -> bool:
        """True if the connection may carry no other exchange."""
        return self._is_spent or self._loop.time() >= self._expires

    def is_connected(self) -> bool:
        """True if an idle connection may be used: open, untouched, and not too old."""
        transport = self.transport
        return transport is not None and not transport.is_closing() and not self.should_close

    @property
    def closed(self) -> asyncio.Future[None] | None:
        """A future for the end of the connection; None if it has ended."""
        if self._closed is None and self.transport is not None:
            self._closed = self._loop.create_future()
        return self._closed

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection without waiting for the peer."""
        if self.transport is not None:
            self.transport.abort()


class _Surplus(Exception):
    """Stops the parser where the response is complete."""
