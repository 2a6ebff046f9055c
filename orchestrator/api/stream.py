"""`GET /v1/events/stream`: the log as Server-Sent Events, resumed from the last one a client has seen.

The format and what clients do with it: https://html.spec.whatwg.org/multipage/server-sent-events.html
Ids are sent from the beginning and with heartbeats too, so a client that has not been sent an event yet, or wants few
of them, comes back to the right place. A stream ends when its key does, and after a quarter of an hour: clients
spread over the processes there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any

import structlog
from pydantic import BeforeValidator, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.api import problems
from orchestrator.api.endpoint import RequestContext
from orchestrator.api.events import kinds
from orchestrator.api.fields import Globs, IdOf
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import Query, words
from orchestrator.events.feed import EventFeed
from orchestrator.events.log import Cursor, EventFilter, LogRow
from orchestrator.foundation.clock import Clock, jittered
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.timeouts import Timeouts

log = structlog.get_logger()

#: Seconds of silence after which a client is sent a sign of life.
HEARTBEAT = 15.0
#: Seconds after which a stream ends, and a fifth more at most.
LONGEST = 750.0
#: Seconds that a client may take to make room for the next piece.
PATIENCE = 30.0
#: Bytes of a piece: what the server holds for a client that does not read.
_PIECE = 64 << 10
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
#: In milliseconds, how soon clients come back.
_RETRY = b"retry: 2000\n"
_PING = b": still here\n"
#: Seconds that the end of a stream may take to be written.
_FAREWELL = 0.5
_timeouts = Timeouts()
#: Returns when a stream is to end.
End = Callable[[], Coroutine[Any, Any, Any]]


class StreamQuery(Query):
    """`GET /v1/events/stream`: `types` is one or more globs, with commas; `last_event_id` for who can set no header."""

    types: (
        Annotated[Globs, BeforeValidator(words), Field(description="Event types; `*` matches.")]
        | None
    ) = None
    last_event_id: Annotated[str, IdOf("evt"), Field(description="As the header.")] | None = None


@operation(
    "Stream events",
    answers={200: answer(None, media="text/event-stream", says="Events as they come")},
    takes=("Last-Event-ID",),
)
async def follow(call: RequestContext, query: StreamQuery) -> Response:
    """Server-Sent Events after `Last-Event-ID`, else from now on. Ends after a quarter of an hour: come back."""
    runtime = call.runtime
    last = _header(call) or query.last_event_id
    async with contextlib.AsyncExitStack() as held:
        held.enter_context(runtime.waiting_slots.admit())
        held.enter_context(runtime.metrics.sse_clients.track_inprogress())
        over = await held.enter_async_context(runtime.feed.following())
        begin = await runtime.feed.cursor(last)
        sent = blocks(runtime.feed, runtime.clock, EventFilter(kinds(query.types)), begin, over)
        # What is held is let go when the stream has ended.
        expelled = partial(call.gate.ended, call.request)
        return EventStream(
            sent, (over.wait, expelled), jittered(LONGEST, runtime.rng), held.pop_all()
        )


def _header(call: RequestContext) -> str | None:
    """Return `Last-Event-ID`. Raises a 422 `Problem` for what is none of ours."""
    said = call.request.headers.get("last-event-id")
    if said and not is_id(said, "evt"):
        raise problems.fault("/last_event_id", "id", "Last-Event-ID is not an id of that kind")
    return said or None


async def blocks(
    feed: EventFeed, clock: Clock, wanted: EventFilter, begin: Cursor, over: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """Yield what a client is sent, in the order of the log, until following is over. Raises `Unavailable`."""
    place, seen, sent = begin.position, begin.id, begin.id
    yield _RETRY + (_gap(begin) if begin.gap else _at(begin.id))
    quiet = clock.monotonic()
    while not over.is_set():
        page = await feed.read(place, wanted)
        for row in page.rows:
            yield _block(row)
            seen, sent, quiet = row["id"], row["id"], clock.monotonic()
        seen = page.last_id or seen
        if (left := quiet + HEARTBEAT - clock.monotonic()) <= 0:
            yield _PING + (b"" if seen == sent else _at(seen))
            sent, quiet = seen, clock.monotonic()
        elif page.position == place:
            await feed.wait_beyond(place, left)
        place = page.position


def _block(row: LogRow) -> bytes:
    """Return an event. Its body is one line: JSON as we write it breaks none."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        row["id"].encode(),
        row["type"].encode(),
        row["body"],
    )


def _at(event_id: str) -> bytes:
    """Return what makes a client come back to an event without telling it of one."""
    return b"id: %b\n\n" % event_id.encode()


def _gap(begin: Cursor) -> bytes:
    """Return what tells a client that it may have missed events, and after which one it goes on."""
    said = json.dumps({"type": "stream.gap", "resumes_after": begin.id}).encode()
    return b"event: stream.gap\ndata: %b\n%b" % (said, _at(begin.id))


class EventStream(Response):
    """Sends blocks until the client leaves or does not read, one of `ends` returns, or it has been long enough."""

    media_type = "text/event-stream"

    def __init__(
        self,
        sent: AsyncGenerator[bytes, None],
        ends: Sequence[End],
        longest: float,
        held: contextlib.AsyncExitStack,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._blocks = sent
        self._ends = ends
        self._longest = longest
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        async with self._held:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if scope["method"] != "HEAD":
                await self._until_over(receive, send)
            # Who does not read does not get this either.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_over(self, receive: Receive, send: Send) -> None:
        tasks = [asyncio.create_task(one) for one in (self._send(send), _gone(receive))]
        tasks += [asyncio.create_task(end()) for end in self._ends]
        try:
            await asyncio.wait(tasks, timeout=self._longest, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        try:
            async with contextlib.aclosing(self._blocks) as sent:
                async for block in sent:
                    await _in_pieces(send, block)
        except Unavailable as error:
            log.warning("a stream ends early", error=str(error))
        except TimeoutError:
            log.info("a stream ends: its client does not read")
        except OSError:
            # What servers raise for a client that has left: https://asgi.readthedocs.io/en/latest/specs/www.html
            log.info("a stream ends: its client left")
        except Exception as error:
            log.error("a stream ends early", exception=traceback_of(error))


async def _in_pieces(send: Send, block: bytes) -> None:
    """Send a block. Raises `TimeoutError` if the client does not make room for a piece of it."""
    for start in range(0, len(block), _PIECE):
        piece = block[start : start + _PIECE]
        async with _timeouts.within(PATIENCE):
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
