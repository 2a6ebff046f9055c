"""Timeouts that share one coarse timer.

A uvloop timer takes 20 µs to arm and disarm, more than most of these waits last. Here a wait is an
entry of a table that is scanned every `GRAIN` seconds, so it may end up to `GRAIN` seconds late.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

GRAIN = 0.25
#: Shorter waits get an asyncio timer each.
_SHARED_FROM = 2.0


class Timeouts:
    """The timeouts of one event loop: `async with timeouts.within(15): ...`."""

    def __init__(self) -> None:
        self._until: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def within(self, seconds: float) -> asyncio.Timeout | _Wait:
        """Return a context that raises `TimeoutError` after `seconds`, like `asyncio.timeout`."""
        return asyncio.timeout(seconds) if seconds < _SHARED_FROM else _Wait(self, seconds)

    def add(self, timeout: asyncio.Timeout, seconds: float) -> None:
        """Start to watch a wait."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The timer of a loop that has ended never fires.
            self._loop, self._timer = loop, None
            self._until.clear()
        self._until[timeout] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(GRAIN, self._scan, loop)

    def remove(self, timeout: asyncio.Timeout) -> None:
        """Forget a wait that has ended."""
        self._until.pop(timeout, None)

    def _scan(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for timeout in [timeout for timeout, until in self._until.items() if until <= now]:
            del self._until[timeout]
            timeout.reschedule(now)
        self._timer = loop.call_later(GRAIN, self._scan, loop) if self._until else None


class _Wait:
    """One wait: an asyncio timeout that is armed only when its time has passed."""

    __slots__ = ("_seconds", "_timeout", "_timeouts")

    def __init__(self, timeouts: Timeouts, seconds: float) -> None:
        self._timeouts = timeouts
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._timeouts.add(self._timeout, self._seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timeouts.remove(self._timeout)
        await self._timeout.__aexit__(kind, error, trace)
