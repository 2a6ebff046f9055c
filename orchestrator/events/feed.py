"""The event feed: the end of the log, read once per process for all followers.

A follower holds only a position. The most recent events are kept in memory for all followers
together, bounded; a follower that is further behind reads batches of the log itself, at its own
pace. So a slow reader costs no memory and loses nothing.

The loop runs while there are followers. A wake-up only makes it faster: events committed by other
replicas are found by polling alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import structlog

from orchestrator.database.listing import fitting
from orchestrator.database.store import Store, Tx
from orchestrator.events import log as event_log
from orchestrator.events.log import Cursor, EventBatch, EventFilter, LogRow, Watermark
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.timeouts import Timeouts
from orchestrator.foundation.wait_queue import WaitQueue

log = structlog.get_logger()

#: Seconds between polls: as a rule; while the watermark is held back; at least, despite wake-ups.
_POLL, _POLL_OPEN_WRITERS, _POLL_MIN = 0.25, 0.02, 0.01
#: Seconds within which a writing transaction has ended, or the server has ended it.
_WRITER_TIMEOUT = 20.0
#: Events, and bytes of their bodies, that one poll reads, and that are kept for followers.
_POLL_ROWS, _POLL_BYTES = 512, 1 << 20
_RECENT_ROWS, _RECENT_BYTES = 2048, 8 << 20
#: Streams of one key that read older events at the same time.
_TURNS = 8


class EventFeed:
    """The feed of one process. All methods belong to its event loop."""

    def __init__(self, store: Store, clock: Clock, retention: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._timeouts = Timeouts()
        self._followers = 0
        self._opening = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._watermark = Watermark()
        self._end = Cursor(0, "")
        self._recent = _RecentEvents(0)
        self._woken, self._over = asyncio.Event(), asyncio.Event()
        self._waiting = WaitQueue()
        #: What the streams of one API key may hold of older events: so many batches.
        self.turns = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(_TURNS))
        self._closed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Event]:
        """Keep the loop running in the block. Yields an event that is set when the feed stops.

        A follower then has to start again, if at all. Raises `Unavailable` if the log cannot be
        read or the process is shutting down.
        """
        self._followers += 1
        try:
            await self._open()
            yield self._over
        finally:
            self._followers -= 1
            if not self._followers:
                self._stop()

    async def cursor(self, event_id: str | None) -> Cursor:
        """Return where a reader resumes after an event; the end if None. Raises `Unavailable`."""
        if event_id is None:
            return self._end
        now = self._clock.now()
        oldest = earliest("evt", now - self._retention)
        return await self._store.read(event_log.cursor_of, event_id, oldest, _first_id(now))

    def has_recent(self, position: int) -> bool:
        """True if what follows a position is kept in memory, for all readers."""
        return position >= self._recent.since

    async def read(
        self, position: int, wanted: EventFilter, max_rows: int = event_log.MAX_ROWS
    ) -> EventBatch:
        """Return the next wanted events after a position, perhaps none. Raises `Unavailable`."""
        if self.has_recent(position):
            return self._recent.after(position, wanted, max_rows)
        visible = self._end.position
        return await self._store.read(event_log.read_batch, position, visible, wanted, max_rows)

    async def wait_beyond(self, position: int, seconds: float) -> None:
        """Return when events follow `position`, when the feed stops, or after `seconds`."""
        if self._end.position <= position and not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with self._timeouts.within(seconds):
                    await self._waiting.wait()

    def wake(self) -> None:
        """Poll soon: an event was committed."""
        self._woken.set()

    def close(self) -> None:
        """Stop the feed for good, so that no response delays the shutdown of the process."""
        self._closed.set()
        self._stop()

    @property
    def closed(self) -> bool:
        """True once the process is shutting down: waits end and none begins."""
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Return once the process is shutting down."""
        await self._closed.wait()

    async def _open(self) -> None:
        async with self._opening:
            if self.closed:
                raise Unavailable("the service is shutting down", retry_after=1)
            if self._loop is None:
                self._over = asyncio.Event()
                await self._find_end()
                self._loop = asyncio.create_task(self._run(), name="event feed")

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            self._loop = None
        self._over.set()
        self._waiting.wake()

    async def _find_end(self) -> None:
        """Wait until the low watermark is known, and find the end of the log."""
        self._watermark = Watermark()
        until = self._clock.monotonic() + _WRITER_TIMEOUT
        while True:
            self._watermark = await self._store.read(event_log.watermark, self._watermark)
            if self._watermark.visible >= 0:
                break
            if self._clock.monotonic() >= until:
                raise Unavailable("a transaction that writes events does not end")
            await self._clock.sleep(_POLL_OPEN_WRITERS)
        now_id = _first_id(self._clock.now())
        self._end = await self._store.read(event_log.end, self._watermark, now_id)
        self._recent = _RecentEvents(self._end.position)

    async def _run(self) -> None:
        while True:
            try:
                while await self._poll():
                    continue
            except Unavailable as error:
                log.warning("the event feed waits for the database", error=str(error))
            except Exception as error:
                # No follower may wait for a loop that has ended: they return and start it again.
                log.error("the event feed stops", exception=traceback_of(error))
                self._stop()
            pause = _POLL_OPEN_WRITERS if self._watermark.open_writers else _POLL
            await _wait_for(self._woken, pause)
            self._woken.clear()
            # Events committed within this time share one poll.
            await _wait_for(self._over, _POLL_MIN)

    async def _poll(self) -> bool:
        """Read new events; return whether there are more."""
        self._watermark = await self._store.read(event_log.watermark, self._watermark)
        batch = await self._store.read(_next_batch, self._end, self._watermark.visible)
        if batch is None:
            # Followers return and resume from ids, which are never reused.
            log.info("the event feed starts again: the newest event was deleted")
            self._stop()
            return False
        if batch.rows:
            self._recent.add(batch.rows)
            self._end = Cursor(batch.rows[-1]["position"], batch.rows[-1]["id"])
            self._waiting.wake()
        return batch.more


def _first_id(now: datetime) -> str:
    """Return an id that comes before all event ids made from now on."""
    return earliest("evt", now)


def _next_batch(tx: Tx, end: Cursor, visible: int) -> EventBatch | None:
    """Return the events after the previous end; None if the end has moved."""
    if not event_log.is_in_place(tx, end):
        return None
    limits = (_POLL_ROWS, _POLL_BYTES)
    return event_log.read_batch(tx, end.position, visible, EventFilter(), *limits)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class _RecentEvents:
    """The most recent events: all after the position `since`."""

    def __init__(self, since: int) -> None:
        self.since = since
        self._rows: list[LogRow] = []
        self._positions: list[int] = []
        self._bytes = 0

    def add(self, rows: Sequence[LogRow]) -> None:
        """Append events, and drop the oldest half when a limit is exceeded."""
        self._rows += rows
        self._positions += [row["position"] for row in rows]
        self._bytes += sum(len(row["body"]) for row in rows)
        while len(self._rows) > _RECENT_ROWS or self._bytes > _RECENT_BYTES:
            dropped = (len(self._rows) + 1) // 2
            self.since = self._positions[dropped - 1]
            self._bytes -= sum(len(row["body"]) for row in self._rows[:dropped])
            del self._rows[:dropped], self._positions[:dropped]

    def after(self, position: int, wanted: EventFilter, max_rows: int) -> EventBatch:
        """Return the first wanted events after a position."""
        start = bisect_right(self._positions, position)
        scanned = self._rows[start : start + max_rows]
        sizes = [len(row["body"]) for row in scanned]
        scanned = scanned[: fitting(sizes, event_log.MAX_BYTES)]
        if not scanned:
            return EventBatch([], position)
        rows = [row for row in scanned if wanted.matches(row)]
        more = start + len(scanned) < len(self._rows)
        return EventBatch(rows, scanned[-1]["position"], more, scanned[-1]["id"])
