"""`GET /v1/events/stream`: the log as Server-Sent Events (SSE), resumable by `Last-Event-ID`.

The format, and how clients reconnect: https://html.spec.whatwg.org/multipage/server-sent-events.html
Ids are sent at the start and with heartbeats too, so that a client that has received no event yet,
or wants few of them, resumes at the right position. A stream ends with its key's validity, and
after a quarter of an hour: reconnecting clients spread over the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from functools import partial
from typing import Annotated

import structlog
from pydantic import Field
from starlette.responses import Response
from starlette.types import Send

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.auth.authenticator import ticket_of
from orchestrator.api.endpoint import RequestContext, reply
from orchestrator.api.events import TypeGlobs, matching_types
from orchestrator.api.fields import IdOf
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import Query
from orchestrator.api.requests import NewTicket
from orchestrator.api.sending import CHUNK, End, StreamedResponse, send_in_chunks
from orchestrator.events.feed import EventFeed
from orchestrator.events.log import Cursor, EventFilter, LogRow
from orchestrator.foundation.clock import Clock, jittered, rfc3339
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.ids import is_id

log = structlog.get_logger()

#: Seconds of silence after which a heartbeat is sent.
HEARTBEAT = 15.0
#: Seconds after which a stream ends, plus up to a fifth.
MAX_DURATION = 750.0
_HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
#: The clients' reconnection time, in milliseconds.
_RETRY = b"retry: 2000\n"
_PING = b": still here\n"
#: Seconds that the end of a stream may take to be written.
_CLOSE_DEADLINE = 0.5


class StreamQuery(Query):
    """`GET /v1/events/stream`: `types` is one or more globs, separated by commas.

    `last_event_id` is for clients that cannot set the header.
    """

    types: TypeGlobs | None = None
    last_event_id: Annotated[str, IdOf("evt"), Field(description="As the header.")] | None = None
    ticket: Annotated[str | None, Field(description="In place of a key; opens one stream.")] = None


@operation("Create a stream ticket", responses={201: schemas.StreamTicket})
async def ticket(context: RequestContext, body: NewTicket) -> Response:
    """For a browser, whose EventSource can send no key: it opens one stream of these types, within
    `seconds`. The stream ends when the key of this request is no longer valid.
    """
    tickets = context.authenticator.tickets
    text, expires = tickets.mint(context.caller.id, body.types, body.seconds)
    shown = {"object": "stream_ticket", "ticket": text, "expires_at": rfc3339(expires)}
    return reply(shown, 201)


@operation(
    "Stream events",
    responses={
        200: returns(None, media_type="text/event-stream", description="Events as they come")
    },
    request_headers=("Last-Event-ID",),
)
async def follow(context: RequestContext, query: StreamQuery) -> Response:
    """Server-Sent Events after `Last-Event-ID`, else from now on. Ends after a quarter of an hour:
    reconnect.
    """
    runtime = context.runtime
    last = _last_event_id(context) or query.last_event_id
    async with contextlib.AsyncExitStack() as held:
        held.enter_context(runtime.waiting_slots.admit(context.caller.id))
        held.enter_context(runtime.metrics.sse_clients.track_inprogress())
        over = await held.enter_async_context(runtime.feed.following())
        begin = await runtime.feed.cursor(last)
        wanted = EventFilter(_types(context, query))
        turns = runtime.feed.turns[context.caller.id]
        source = blocks(runtime.feed, runtime.clock, wanted, begin, over, turns)
        key_ends = partial(context.authenticator.wait_until_invalid, context.request)
        # The slot and the feed are released when the stream has ended.
        duration, resources = jittered(MAX_DURATION, runtime.rng), held.pop_all()
        return EventStream(source, (over.wait, key_ends), duration, resources)


def _types(context: RequestContext, query: StreamQuery) -> frozenset[str] | None:
    """Return the types that are wanted and that the ticket, if there is one, allows."""
    ticket, wanted = ticket_of(context.request), matching_types(query.types)
    allowed = matching_types(ticket.types) if ticket else None
    if wanted is None or allowed is None:
        return allowed if wanted is None else wanted
    return wanted & allowed


def _last_event_id(context: RequestContext) -> str | None:
    """Return `Last-Event-ID`. Raises a 422 `Problem` for an id that is not an event's."""
    event_id = context.request.headers.get("last-event-id")
    if event_id and not is_id(event_id, "evt"):
        message = "Last-Event-ID is not an id of that kind"
        raise problems.invalid_field("/last_event_id", "id", message)
    return event_id or None


async def blocks(
    feed: EventFeed,
    clock: Clock,
    wanted: EventFilter,
    begin: Cursor,
    over: asyncio.Event,
    turns: asyncio.Semaphore,
) -> AsyncGenerator[bytes, None]:
    """Yield what a client is sent, in the order of the log, until `over` is set.

    Recent events are the same bytes for all streams. A stream that is further behind holds events
    of its own, and takes one of the `turns` of its key for as long as it sends them. Raises
    `Unavailable`.
    """
    position, seen, sent = begin.position, begin.id, begin.id
    yield _RETRY + (_gap(begin) if begin.gap else _position(begin.id))
    quiet_since = clock.monotonic()
    while not over.is_set():
        async with contextlib.nullcontext() if feed.has_recent(position) else turns:
            batch = await feed.read(position, wanted)
            for row in batch.rows:
                for piece in _block(row):
                    yield piece
                seen, sent, quiet_since = row["id"], row["id"], clock.monotonic()
        seen = batch.last_id or seen
        if (left := quiet_since + HEARTBEAT - clock.monotonic()) <= 0:
            yield _PING + (b"" if seen == sent else _position(seen))
            sent, quiet_since = seen, clock.monotonic()
        elif batch.position == position:
            await feed.wait_beyond(batch.position, left)
        position = batch.position


def _block(row: LogRow) -> Iterable[bytes]:
    """Return an event in pieces. Its body is one line: compact JSON has no line breaks.

    A large body is a piece of its own: it is not copied for each stream.
    """
    head = b"id: %b\nevent: %b\ndata: " % (row["id"].encode(), row["type"].encode())
    pieces = head, row["body"], b"\n\n"
    return pieces if len(row["body"]) > CHUNK else (b"".join(pieces),)


def _position(event_id: str) -> bytes:
    """Return a block that sets the client's last event id and dispatches no event."""
    return b"id: %b\n\n" % event_id.encode()


def _gap(begin: Cursor) -> bytes:
    """Return the event that reports a gap: events may be missing, and where the stream resumes."""
    data = json.dumps({"type": "stream.gap", "resumes_after": begin.id}).encode()
    return b"event: stream.gap\ndata: %b\n%b" % (data, _position(begin.id))


class EventStream(StreamedResponse):
    """Sends blocks until the client leaves or stops reading, an end returns, or time is up.

    `duration` is in seconds. `resources` are released at the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        ends: Sequence[End],
        duration: float,
        resources: contextlib.AsyncExitStack,
    ) -> None:
        super().__init__(200, ends, duration, resources)
        self.init_headers(_HEADERS)
        self._source = source

    async def send_end(self, send: Send) -> None:
        """Complete the response, unless its client does not read: it does not get this either."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_DEADLINE):
                await super().send_end(send)

    async def send_body(self, send: Send) -> None:
        """Send the blocks."""
        try:
            async with contextlib.aclosing(self._source) as source:
                async for block in source:
                    await send_in_chunks(send, block)
        except Unavailable as error:
            log.warning("a stream ends early", error=str(error))
        except TimeoutError:
            log.info("a stream ends: its client does not read")
        except OSError:
            # Servers raise it for a client that has left:
            # https://asgi.readthedocs.io/en/latest/specs/www.html
            log.info("a stream ends: its client left")
