"""Deadlines for many short waits on one timer.

A timer of uvloop's own takes 20 µs to arm and disarm, more than most of these waits last. Here a wait is a line in a
table that is looked through four times a second, so it may end up to `GRAIN` seconds late.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

GRAIN = 0.25
#: Shorter waits get a timer of their own.
_SHARED_FROM = 2.0


class Deadlines:
    """Waits of one event loop. `async with deadlines.within(15): ...` raises `TimeoutError` when that takes longer."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def within(self, seconds: float) -> asyncio.Timeout | _Wait:
        """Return a context that ends after so many seconds, as `asyncio.timeout` does."""
        return asyncio.timeout(seconds) if seconds < _SHARED_FROM else _Wait(self, seconds)

    def add(self, timeout: asyncio.Timeout, seconds: float) -> None:
        """Watch over a wait from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The timer of a loop that has ended never fires.
            self._loop, self._timer = loop, None
            self._open.clear()
        self._open[timeout] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(GRAIN, self._look, loop)

    def remove(self, timeout: asyncio.Timeout) -> None:
        """Forget a wait that has ended."""
        self._open.pop(timeout, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for timeout in [one for one, until in self._open.items() if until <= now]:
            del self._open[timeout]
            timeout.reschedule(now)
        self._timer = loop.call_later(GRAIN, self._look, loop) if self._open else None


class _Wait:
    """One wait: a timeout of asyncio's that is armed only when it is up."""

    __slots__ = ("_deadlines", "_seconds", "_timeout")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._deadlines.add(self._timeout, self._seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.remove(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)
