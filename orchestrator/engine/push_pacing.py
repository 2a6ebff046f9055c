"""Back-pressure at the door: pushes wait while deliveries fall behind them.

Pushes and deliveries share one event loop. A burst of pushes that is taken as fast as it comes
leaves deliveries the rest of the loop, and their backlog grows for as long as the burst lasts. So
when the loop is the cause, pushes wait until what was pushed before is being delivered, and then
continue together: they share commits as before. A vendor waits some milliseconds longer for its
acknowledgement.

A subscriber that is slow is no cause: its exchanges take most of the time of its deliveries. Nor is
a loop that has time. And a long backlog may not keep pushes out: they wait `LONGEST` at a time.

Also, while deliveries are made, `PLACES` pushes at a time are stored: the deliveries of a larger
group would all wait for the whole group, and for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

#: Seconds that pushes wait for their turn, and for a place, at most.
LONGEST: Final = 0.25
#: Pushes that are stored at the same time, if deliveries were claimed in the last `LATELY` s.
PLACES: Final = 24
LATELY: Final = 0.1
#: Seconds that a delivery may be behind its event, and the loop behind its timer.
_BEHIND: Final = 0.03
_LATE: Final = 0.002
#: Seconds between two looks at the loop, while pushes come faster than that.
_EVERY: Final = 0.01
#: The weight of the last attempt in the average over attempts.
_WEIGHT: Final = 0.05


class PushPacing:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._turn: asyncio.Future[None] | None = None
        self._opens: asyncio.TimerHandle | None = None
        self._looks: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        self._pushed_at = 0.0
        #: Seconds by which the loop was late when it was looked at.
        self._late = 0.0
        #: Seconds that an attempt takes more here than its exchange takes, on average.
        self._ours = 0.0
        #: Pushes that are being stored, and those that wait; when deliveries were claimed.
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._claimed_at = -math.inf

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Store a push in the block, which begins when it may.

        Only what takes its time here: reading a large body waits for others of its account.
        """
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        self._admit()
        if not self._waiting and not self._is_full():
            self._inside += 1
            return
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._waiting.append(place)
        longest = loop.call_later(LONGEST, self._grant, place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._leave()
            raise
        finally:
            longest.cancel()

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _grant(self, place: asyncio.Future[None]) -> None:
        if not place.done():
            self._inside += 1
            place.set_result(None)

    def _admit(self) -> None:
        while self._waiting and not self._is_full():
            self._grant(self._waiting.popleft())

    def _is_full(self) -> bool:
        lately = asyncio.get_running_loop().time() - self._claimed_at < LATELY
        return lately and self._inside >= PLACES

    async def turn(self) -> None:
        """Return when a push may be processed."""
        loop = asyncio.get_running_loop()
        before, self._pushed_at = self._pushed_at, loop.time()
        if self._looks is None and self._pushed_at - before < _EVERY:
            self._look_again(loop)
        if self._turn is not None:
            await asyncio.shield(self._turn)

    def attempted(self, exchange: float, whole: float) -> None:
        """Note the seconds of an exchange, and of its whole attempt, from claim to record."""
        self._ours += _WEIGHT * (whole - 2 * exchange - self._ours)

    def claimed(self, behind: float, *, is_all: bool) -> None:
        """Note that the last claimed delivery is `behind` seconds after its event.

        `is_all`: no other is due.
        """
        self._claimed_at = asyncio.get_running_loop().time()
        if is_all or behind < _BEHIND:
            self._open()
        elif self._turn is None and self._late > _LATE and self._ours > 0:
            loop = asyncio.get_running_loop()
            self._turn = loop.create_future()
            self._opens = loop.call_later(LONGEST, self._open)

    def _open(self) -> None:
        """Let all go on that wait."""
        if self._opens is not None:
            self._opens.cancel()
        turn, self._turn, self._opens = self._turn, None, None
        if turn is not None:
            turn.set_result(None)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looked_at = loop.time()
        self._looks = loop.call_later(_EVERY, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See whether the loop is late while pushes are processed."""
        now = loop.time()
        if self._turn is None:
            self._late = now - self._looked_at - _EVERY
        self._looks = None
        if self._turn is not None or now - self._pushed_at < 2 * _EVERY:
            self._look_again(loop)
