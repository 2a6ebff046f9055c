"""Follows the event log: a stream that reconnects, in order, without loss or duplicates.

The server resumes after the id in `Last-Event-ID`. It also sends the ids of events that the stream
filters out, so the last id is a position in the log. The cursor moves as events are returned to
the caller, not as they arrive: what the caller has not been given is sent again.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from orchestrator.client import errors
from orchestrator.client.callbacks import Callbacks, Gap, Reconnect, finish
from orchestrator.client.connection import Connection, OpenResponse
from orchestrator.client.requests import Request, path
from orchestrator.client.responses import parse_response
from orchestrator.client.sse import EventTooLong, Message, Parser
from orchestrator.schemas import Event

#: Seconds without a byte after which a connection is given up: three heartbeats of the server.
IDLE_TIMEOUT = 45.0
#: Seconds before a reconnect, at most, whatever the server asks for.
_LONGEST_DELAY = 60.0
#: Seconds for the body of an error response to arrive.
_ERROR_BODY_TIMEOUT = 30.0
#: Ids kept for deduplication, in case a server repeats an event.
_MAX_RECENT = 1024
#: Errors that a reconnect does not cure.
_PERMANENT = (
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.Gone,
    errors.Invalid,
    errors.NotOurs,
)


@dataclass
class Follower:
    """A position in the log, and a connection that is reopened whenever it is lost."""

    connection: Connection
    types: Sequence[str] | None
    cursor: str | None
    callbacks: Callbacks
    idle_timeout: float = IDLE_TIMEOUT
    _response: OpenResponse | None = field(init=False, default=None)
    _parser: Parser = field(init=False, default_factory=Parser)
    _pending: deque[Message] = field(init=False, default_factory=deque)
    _recent: dict[str, None] = field(init=False, default_factory=dict)
    _retry: float = field(init=False, default=0.0)
    _tries: int = field(init=False, default=0)
    _is_open: bool = field(init=False, default=False)
    _was_open: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    async def next(self) -> Event | None:
        """Return the next event, None after `close`. Raises `ClientError`."""
        while not self._is_closed():
            if self._pending:
                event = await self._process(self._pending.popleft())
                if event is not None:
                    return event
                continue
            chunk, error = await self._read()
            if chunk:
                await self._feed(chunk)
            elif not self._is_closed():
                await self._pause(error)
        return None

    async def close(self) -> None:
        """Close the connection. The cursor stays."""
        self._closed = True
        await self._disconnect()

    def _is_closed(self) -> bool:
        return self._closed

    async def _read(self) -> tuple[bytes, errors.ClientError | None]:
        """Return the next chunk, connecting first if necessary.

        A lost connection is an empty chunk, with the error if any. Raises `ClientError` if a
        reconnect is pointless.
        """
        chunk: bytes = b""
        lost: errors.ClientError | None = None
        try:
            response = self._response
            if response is None:
                response = self._response = await self._connect()
                self._parser, self._is_open = Parser(self.cursor or ""), False
            # `close` in another thread sets `_closed`, then closes `_response`: a connection that
            # was opened meanwhile is either seen there or released here.
            if not self._is_closed():
                chunk = await response.read()
        except errors.ClientError as error:
            if not self._is_closed() and (isinstance(error, _PERMANENT) or not self._was_open):
                await self._disconnect()
                raise
            lost = error
        if not chunk:
            await self._disconnect()
        return chunk, lost

    async def _feed(self, chunk: bytes) -> None:
        """Queue the messages of a chunk. A stream is open once its position in the log is known."""
        try:
            self._pending.extend(self._parser.feed(chunk))
        except EventTooLong as error:
            await self._disconnect()
            raise errors.NotOurs(f"{self.connection.target}: {error}") from error
        self._retry = self._parser.retry or self._retry
        if self._pending and not self._is_open:
            self._is_open, self._was_open, self._tries = True, True, 0
            await finish(self.callbacks.on_open and self.callbacks.on_open())

    async def _connect(self) -> OpenResponse:
        """Return a stream. The first is retried like a call; later `next` retries without end."""
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if self.cursor:
            headers["last-event-id"] = self.cursor
        query = {"types": self.types}
        request = Request("GET", path("events", "stream"), None, query, headers)
        if self._was_open:
            return await self._open_stream(request)
        return await self.connection.retried(request, self._open_stream)

    async def _open_stream(self, request: Request) -> OpenResponse:
        connection = self.connection
        response = await connection.open(request, self.idle_timeout)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status == 200 and kind == "text/event-stream":
            return response
        ends = connection.transport.monotonic() + _ERROR_BODY_TIMEOUT
        try:
            body = await connection.read_body(request, response, ends)
        finally:
            await response.close()
        server = str(connection.target)
        parse_response(request, server, response.status, response.headers, body)
        raise errors.NotOurs(
            f"{server} answered {response.status} with {kind or 'nothing'}, not with a stream"
        )

    async def _disconnect(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.close()

    async def _pause(self, error: errors.ClientError | None) -> None:
        """Call `on_reconnect`, and wait before the connection is reopened."""
        self._tries += 1
        retries = self.connection.retries
        least = self._retry * retries.rng.uniform(0.5, 1.0)
        delay = min(_LONGEST_DELAY, max(least, retries.backoff(self._tries, error)))
        event = Reconnect(self._tries, delay, error, self.cursor)
        await finish(self.callbacks.on_reconnect and self.callbacks.on_reconnect(event))
        await self.connection.transport.sleep(delay)

    async def _process(self, message: Message) -> Event | None:
        """Move the cursor to a message; return its event if it has a new event."""
        self.cursor = message.id or self.cursor
        if message.data is None:
            return None
        if message.type == "stream.gap":
            await self._report_gap(message.data)
            return None
        try:
            event = Event.model_validate_json(message.data)
        except ValidationError as error:
            raise errors.NotOurs(
                f"{self.connection.target} sent something that is no event"
            ) from error
        return event if self._is_new(event.id) else None

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._recent:
            return False
        self._recent[event_id] = None
        if len(self._recent) > _MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return True

    async def _report_gap(self, data: str) -> None:
        try:
            after = str(json.loads(data)["resumes_after"])
        except (ValueError, KeyError, TypeError) as error:
            raise errors.NotOurs(
                f"{self.connection.target} sent a gap without its `resumes_after`"
            ) from error
        self.cursor = after
        if self.callbacks.on_gap is None:
            raise errors.StreamGap(after)
        await finish(self.callbacks.on_gap(Gap(after)))
