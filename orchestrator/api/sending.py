"""Responses that a client may read slowly: sent in chunks, each within a deadline.

A server buffers what a client has not read. A large response therefore takes room for as long as
it is sent, and a client that stops reading is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.foundation.admission import SharedAdmission
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.timeouts import Timeouts

log = structlog.get_logger()

#: Seconds that a client may take to make room for the next chunk.
SEND_DEADLINE = 30.0
#: Bytes of a chunk. The server buffers 64 KiB and one of them for a client that does not read.
CHUNK = 16 << 10
#: Bytes of a response from which on it takes room: what a server buffers anyway.
_LARGE = 64 << 10
_timeouts = Timeouts()
#: Returns when a response is to end.
End = Callable[[], Coroutine[Any, Any, Any]]


async def send_in_chunks(send: Send, body: bytes) -> None:
    """Send a part of a body. Raises `TimeoutError` if the client does not make room for it."""
    for start in range(0, len(body), CHUNK):
        chunk = body[start : start + CHUNK]
        async with _timeouts.within(SEND_DEADLINE):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


class StreamedResponse(Response, ABC):
    """A response whose length is open when it begins: it holds resources until it is sent.

    It ends when the client leaves, an end returns, or after `duration` seconds. Its key is not
    looked at before it is called: an end does that.
    """

    def __init__(
        self,
        status: int,
        ends: Sequence[End],
        duration: float,
        resources: contextlib.AsyncExitStack,
    ) -> None:
        self.status_code = status
        self.background = None
        self._ends = ends
        self._duration = duration
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Its resources are released at the end."""
        async with self._resources:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            if scope["method"] != "HEAD":
                await while_wanted(self.send_body(send), receive, self._ends, self._duration)
            await self.send_end(send)

    @abstractmethod
    async def send_body(self, send: Send) -> None:
        """Send the parts of the body. Canceled when the response ends before them."""

    async def send_end(self, send: Send) -> None:
        """Complete the body. A server closes the connection of one that is not."""
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_wanted(
    sending: Coroutine[Any, Any, None], receive: Receive, ends: Sequence[End], duration: float
) -> None:
    """Run `sending` until it is done, the client leaves, an end returns, or after `duration` s.

    An exception ends it too, and is logged: the response has begun, so nothing can answer for it.
    """
    running = (sending, _disconnected(receive), *(end() for end in ends))
    tasks = [asyncio.create_task(coroutine) for coroutine in running]
    try:
        await asyncio.wait(tasks, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a response ends early", exception=traceback_of(result))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


class LargeResponse(Response):
    """A large response that holds room until it is sent."""

    def __init__(self, response: Response, room: contextlib.ExitStack) -> None:
        self.status_code = response.status_code
        self.background = None
        self.body = response.body
        self.raw_headers = response.raw_headers
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        with self._room:
            await send({"type": "http.response.start", **start})
            try:
                await send_in_chunks(send, bytes(self.body))
            except TimeoutError:
                # The server closes the connection of a response that is not complete.
                log.info("a response ends: its client does not read")
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def with_room(response: Response, responses: SharedAdmission, key: str) -> Response:
    """Return a response that is sent within its bounds. Raises `Unavailable` if it has no room."""
    body = getattr(response, "body", b"")
    if len(body) < _LARGE:
        return response
    room = contextlib.ExitStack()
    room.enter_context(responses.hold(key, body))
    return LargeResponse(response, room)
