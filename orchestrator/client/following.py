"""Following the log: a stream of events that comes back by itself, in order, none lost and none twice.

The server resumes after the id it is told (`Last-Event-ID`), and says ids of events that nobody is sent too; so the
last id is a place in the log. It moves as events are handed over, not as they arrive: what a caller has not been given
comes again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from orchestrator.client import errors
from orchestrator.client.callbacks import Callbacks, Gap, Reconnect, done
from orchestrator.client.connection import Opened, Wire
from orchestrator.client.requests import Request, path
from orchestrator.client.responses import answered
from orchestrator.client.sse import Message, Parser, TooLong
from orchestrator.schemas import Event

#: Seconds without a byte after which a connection is given up: three heartbeats of the server's.
SILENCE = 45.0
#: Seconds before coming back that a pause never exceeds, whatever the server asks for.
_LONGEST = 60.0
#: Seconds for the words of a refusal to arrive.
_WORDS = 30.0
#: Events that are remembered, in case a server tells one again.
_REMEMBERED = 1024
#: Answers after which nothing will get better by asking again.
_FINAL = (
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.Gone,
    errors.Invalid,
    errors.NotOurs,
)


@dataclass
class Following:
    """A place in the log, and a connection that is made again whenever it is lost."""

    wire: Wire
    types: Sequence[str] | None
    cursor: str | None
    callbacks: Callbacks
    silence: float = SILENCE
    _opened: Opened | None = field(init=False, default=None)
    _parser: Parser = field(init=False, default_factory=Parser)
    _waiting: deque[Message] = field(init=False, default_factory=deque)
    _recent: dict[str, None] = field(init=False, default_factory=dict)
    _retry: float = field(init=False, default=0.0)
    _tries: int = field(init=False, default=0)
    _is_open: bool = field(init=False, default=False)
    _was_open: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    async def next(self) -> Event | None:
        """Return the next event, None after `close`. Raises `ClientError`: refused, or a gap that nobody asked of."""
        while not self._is_closed():
            if self._waiting:
                event = await self._taken(self._waiting.popleft())
                if event is not None:
                    return event
                continue
            piece, error = await self._piece()
            if piece:
                await self._feed(piece)
            elif not self._is_closed():
                await self._pause(error)
        return None

    async def close(self) -> None:
        """End it. The cursor stays."""
        self._closed = True
        await self._drop()

    def _is_closed(self) -> bool:
        return self._closed

    async def _piece(self) -> tuple[bytes, errors.ClientError | None]:
        """Return what arrives next, connecting first if need be; nothing, and perhaps why, if the connection is gone.

        Raises `ClientError` if no other is to be made.
        """
        try:
            if self._opened is None:
                self._opened = await self._connected()
                self._parser, self._is_open = Parser(self.cursor or ""), False
            piece, gone = await self._opened.read(), None
        except errors.ClientError as error:
            if not self._is_closed() and (isinstance(error, _FINAL) or not self._was_open):
                await self._drop()
                raise
            piece, gone = b"", error
        if not piece:
            await self._drop()
        return piece, gone

    async def _feed(self, piece: bytes) -> None:
        """Add what arrived to what is waiting. A stream is open once it has said where in the log it is."""
        try:
            self._waiting.extend(self._parser.feed(piece))
        except TooLong as error:
            await self._drop()
            raise errors.NotOurs(f"{self.wire.target}: {error}") from error
        self._retry = self._parser.retry or self._retry
        if self._waiting and not self._is_open:
            self._is_open, self._was_open, self._tries = True, True, 0
            await done(self.callbacks.on_open and self.callbacks.on_open())

    async def _connected(self) -> Opened:
        """Return a stream. At first it is tried as any call is; later the caller of this goes on trying."""
        request, tries = self._request(), 1
        while True:
            try:
                return await self._connect(request)
            except errors.ClientError as error:
                pause = None if self._was_open else self.wire.retries.after(request, error, tries)
                if pause is None:
                    raise
            tries += 1
            await self.wire.port.sleep(pause)

    def _request(self) -> Request:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if self.cursor:
            headers["last-event-id"] = self.cursor
        return Request(
            "GET", path("events", "stream"), query={"types": self.types}, headers=headers
        )

    async def _connect(self, request: Request) -> Opened:
        opened = await self.wire.open(request, self.silence)
        kind = opened.headers.get("content-type", "").partition(";")[0].strip().lower()
        if opened.status == 200 and kind == "text/event-stream":
            return opened
        try:
            body = await self.wire.body(request, opened, self.wire.port.monotonic() + _WORDS)
        finally:
            await opened.close()
        answered(request, str(self.wire.target), opened.status, opened.headers, body)
        raise errors.NotOurs(
            f"{self.wire.target} answered {opened.status} with {kind or 'nothing'}, not with a stream"
        )

    async def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def _pause(self, error: errors.ClientError | None) -> None:
        """Say that the connection is gone, and wait before it is made again."""
        self._tries += 1
        asked = error.retry_after if isinstance(error, errors.ApiError) else None
        least = self._retry * self.wire.retries.rng.uniform(0.5, 1.0)
        delay = min(_LONGEST, max(least, self.wire.retries.pause(self._tries, asked)))
        told = Reconnect(self._tries, delay, error, self.cursor)
        await done(self.callbacks.on_reconnect and self.callbacks.on_reconnect(told))
        await self.wire.port.sleep(delay)

    async def _taken(self, message: Message) -> Event | None:
        """Move to where a message is, and return its event if it has one that is new."""
        self.cursor = message.id or self.cursor
        if message.data is None:
            return None
        if message.type == "stream.gap":
            await self._tell_gap(message.data)
            return None
        try:
            event = Event.model_validate_json(message.data)
        except ValidationError as error:
            raise errors.NotOurs(f"{self.wire.target} sent something that is no event") from error
        return event if self._is_new(event.id) else None

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._recent:
            return False
        self._recent[event_id] = None
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        return True

    async def _tell_gap(self, data: str) -> None:
        try:
            after = str(json.loads(data)["resumes_after"])
        except (ValueError, KeyError, TypeError) as error:
            raise errors.NotOurs(f"{self.wire.target} told of a gap, but not of where") from error
        self.cursor = after
        if self.callbacks.on_gap is None:
            raise errors.StreamGap(after)
        await done(self.callbacks.on_gap(Gap(after)))
