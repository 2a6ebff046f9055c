"""The end of the log, read once for all who follow it: one query a look, however many they are.

Who follows keeps nothing but a place. What was read last is kept for all of them together, and is bounded; who has
fallen further behind reads pages of the log for itself, as fast as it gets rid of them. So a slow reader costs no
memory, and loses nothing.

The loop runs while anybody follows. A nudge is speed; the tick is the promise: what other replicas commit is found by
the tick alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import structlog

from orchestrator.database.store import Store, Tx
from orchestrator.events import log as journal
from orchestrator.events.log import Cursor, EventBatch, EventFilter, Row, Watermark
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.timeouts import Deadlines

log = structlog.get_logger()

#: Seconds between looks; while transactions are waited for; and at least, however often it is nudged.
_TICK, _SOON, _REST = 0.25, 0.02, 0.01
#: Seconds after which those who write events have ended, or been ended by the server.
_PATIENCE = 20.0
#: Events, and bytes of them, that one look reads, and that are kept for those who follow.
_LOOK_ROWS, _LOOK_BYTES = 512, 1 << 20
_KEPT_ROWS, _KEPT_BYTES = 2048, 8 << 20


class EventFeed:
    """One process's. All methods belong to its event loop."""

    def __init__(self, store: Store, clock: Clock, retention: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._deadlines = Deadlines()
        self._followers = 0
        self._opening = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._whole = Watermark()
        self._end = Cursor(0, "")
        self._kept = _RecentEvents(0)
        self._due, self._news, self._over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        #: True once the process is told to end: nobody is to be kept waiting any more.
        self.closed = False

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Event]:
        """Have the log read meanwhile. Yields what is set when following is over, and has to begin anew if at all.

        Raises `Unavailable` if the log cannot be read, or the process is about to end.
        """
        self._followers += 1
        try:
            await self._open()
            yield self._over
        finally:
            self._followers -= 1
            if not self._followers:
                self._stop()

    async def mark(self, event_id: str | None) -> Cursor:
        """Return where a reader goes on that has seen an event, or the end. Raises `Unavailable`."""
        if event_id is None:
            return self._end
        now = self._clock.now()
        return await self._store.read(
            journal.cursor_of, event_id, earliest("evt", now - self._retention), _id(now)
        )

    async def read(self, place: int, wanted: EventFilter, most: int = journal.ROWS) -> EventBatch:
        """Return the next wanted events after a place, none if there are none yet. Raises `Unavailable`."""
        if place >= self._kept.since:
            return self._kept.after(place, wanted, most)
        return await self._store.read(journal.read_batch, place, self._end.place, wanted, most)

    async def news(self, place: int, seconds: float) -> None:
        """Return when there are events after a place, when following is over, or after that many seconds."""
        if self._end.place <= place and not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with self._deadlines.within(seconds):
                    await self._news.wait()

    def wake(self) -> None:
        """Look soon: an event was committed."""
        self._due.set()

    def close(self) -> None:
        """End following for everybody, and for good: the process is to end, and nobody's answer may hold that up."""
        self.closed = True
        self._stop()

    async def _open(self) -> None:
        async with self._opening:
            if self.closed:
                raise Unavailable("the service is about to end", retry_after=1)
            if self._loop is None:
                self._over, self._news = asyncio.Event(), asyncio.Event()
                await self._begin()
                self._loop = asyncio.create_task(self._run(), name="tail")

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.cancel()
            self._loop = None
        self._over.set()
        self._news.set()

    async def _begin(self) -> None:
        """Find the end of the log."""
        self._whole = Watermark()
        until = self._clock.monotonic() + _PATIENCE
        while (known := await self._store.read(journal.watermark, self._whole)).upto < 0:
            if self._clock.monotonic() >= until:
                raise Unavailable("a transaction that writes events does not end")
            self._whole = known
            await self._clock.sleep(_SOON)
        self._whole = known
        self._end = await self._store.read(journal.end, known, _id(self._clock.now()))
        self._kept = _RecentEvents(self._end.place)

    async def _run(self) -> None:
        while True:
            try:
                while await self._look():
                    continue
            except Unavailable as error:
                log.warning("the log waits for the database", error=str(error))
            except Exception as error:
                # Nobody is to wait for a loop that is gone: who follows comes back, and has another one begun.
                log.error("the log is followed no more", exception=traceback_of(error))
                self._stop()
            await _either(self._due, _SOON if self._whole.writing else _TICK)
            self._due.clear()
            # What else is committed now shares a look.
            await _either(self._over, _REST)

    async def _look(self) -> bool:
        """Read what is new; return whether there is more of it."""
        self._whole = await self._store.read(journal.watermark, self._whole)
        page = await self._store.read(_next, self._end, self._whole.upto)
        if page is None:
            # Whoever comes back is led by ids, which are never given twice.
            log.info("the log is followed anew: its newest event was deleted")
            self._stop()
            return False
        if page.rows:
            self._kept.add(page.rows)
            self._end = Cursor(page.rows[-1]["position"], page.rows[-1]["id"])
            self._news.set()
            self._news = asyncio.Event()
        return page.more


def _id(now: datetime) -> str:
    """Return an id before all that are made from now on."""
    return earliest("evt", now)


def _next(tx: Tx, end: Cursor, upto: int) -> EventBatch | None:
    """Return the events after the end so far; None if that is not where it was."""
    if not journal.stands(tx, end):
        return None
    return journal.read_batch(tx, end.place, upto, EventFilter(), _LOOK_ROWS, _LOOK_BYTES)


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after that many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class _RecentEvents:
    """The last events that were read: all after the place `since`."""

    def __init__(self, since: int) -> None:
        self.since = since
        self._rows: list[Row] = []
        self._places: list[int] = []
        self._bytes = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Keep these too, and let go of the oldest half when there are too many."""
        self._rows += rows
        self._places += [row["position"] for row in rows]
        self._bytes += sum(len(row["body"]) for row in rows)
        while len(self._rows) > _KEPT_ROWS or self._bytes > _KEPT_BYTES:
            gone = (len(self._rows) + 1) // 2
            self.since = self._places[gone - 1]
            self._bytes -= sum(len(row["body"]) for row in self._rows[:gone])
            del self._rows[:gone], self._places[:gone]

    def after(self, place: int, wanted: EventFilter, most: int) -> EventBatch:
        """Return the first wanted events after a place."""
        start = bisect_right(self._places, place)
        looked = self._rows[start : start + most]
        looked = looked[: journal.share([len(row["body"]) for row in looked])]
        if not looked:
            return EventBatch([], place)
        rows = [row for row in looked if wanted.takes(row)]
        return EventBatch(
            rows, looked[-1]["position"], start + len(looked) < len(self._rows), looked[-1]["id"]
        )
