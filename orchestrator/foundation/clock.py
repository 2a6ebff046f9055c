"""Time and randomness as ports, and the arithmetic of waiting as pure functions.

No other module reads a clock, sleeps or draws a random number, so tests run in virtual time.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

Rng = random.Random

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Seconds before each try at a submission that was not sent, or was refused temporarily.
SUBMIT_SCHEDULE = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 300.0, 600.0)


#: Counts also while the machine sleeps, where the system has such a clock (clock_gettime(2)).
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: By what share a corrected clock runs faster or slower at most: leases have a larger margin.
SLEW = 0.1
#: Seconds by which a clock that was set differs from one that drifts; and seconds after which it
#: counts as right: a mistake would be corrected by then.
_STEP, SETTLED = 2.0, 600.0


class Clock(Protocol):
    """The port to time."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC. It advances evenly when a clock is set."""
        ...

    def wall(self) -> datetime:
        """Return what the clock of the operating system shows, which can be set."""
        ...

    def stamp(self) -> datetime:
        """Return the instant that others check: in signatures, and in tokens of vendors.

        That of `now`, until a clock has been set for so long that it must be right.
        """
        ...

    def monotonic(self) -> float:
        """Return seconds that never decrease."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        ...


class SystemClock:
    """The time of the operating system when this was made, advanced by a clock that is never set.

    A clock that is set must not let leases, deadlines and retention pass at once, nor stop them.
    """

    def __init__(self) -> None:
        self._began = time.time() - time.clock_gettime(_STEADY)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._began + time.clock_gettime(_STEADY), UTC)

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def stamp(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class DisciplinedClock:
    """A clock that follows a reference: that of a shared database, or the operating system's.

    All replicas then agree on what is due. The first correction is made at once. Later ones are
    slewed, as by ntpd: the clock runs up to `SLEW` faster or slower, so due times keep their
    distance when the reference is set.
    """

    def __init__(self, clock: Clock) -> None:
        self.own = clock
        #: How far it was ahead of `own`, at which monotonic time, and how far it should be.
        self._course: tuple[float, float, float] | None = None
        #: The monotonic time at which the reference was set last.
        self._set_at = 0.0

    def now(self) -> datetime:
        return self.own.now() + timedelta(seconds=self._ahead())

    def wall(self) -> datetime:
        return self.own.wall()

    def stamp(self) -> datetime:
        if self._course is None or self.monotonic() - self._set_at < SETTLED:
            return self.now()
        return self.own.now() + timedelta(seconds=self._course[2])

    def monotonic(self) -> float:
        return self.own.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.own.sleep(seconds)

    def correct(self, ahead: float) -> float:
        """Note that the reference is `ahead` seconds ahead of `own`.

        Return by how much that has changed.
        """
        target = 0.0 if self._course is None else self._course[2]
        start = ahead if self._course is None else self._ahead()
        if self._course is not None and abs(ahead - target) > _STEP:
            self._set_at = self.monotonic()
        self._course = start, self.monotonic(), ahead
        return ahead - target

    def _ahead(self) -> float:
        if self._course is None:
            return 0.0
        start, since, target = self._course
        if start == target:
            return target
        slewed = SLEW * (self.monotonic() - since)
        return min(max(target, start - slewed), start + slewed)


def after(now: datetime, seconds: float) -> datetime:
    """Return the instant `seconds` later."""
    return now + timedelta(seconds=seconds)


def epoch_ms(at: datetime) -> int:
    """Return whole milliseconds since 1970."""
    since = at - EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def from_epoch(value: float) -> datetime:
    """Return the instant of a number since 1970, in seconds or in milliseconds.

    Vendors mix both, new-api even in one response. Above 1e11 (in seconds the year 5138) the unit
    is milliseconds.
    """
    return EPOCH + timedelta(seconds=value / 1000 if abs(value) > 1e11 else value)


def rfc3339(at: datetime) -> str:
    """Return `2026-11-20T10:00:00.000Z`."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def backoff(first: float, times: int, *, factor: float, most: float) -> float:
    """Return exponential backoff: `first * factor ** times` seconds, at most `most`."""
    # The exponent is bounded: factor ** 10_000 overflows.
    return min(most, first * factor ** min(times, 64))


def jittered(seconds: float, rng: Rng, share: float = 0.2) -> float:
    """Return `seconds` and up to `share` more, never less: Retry-After is a lower bound."""
    return seconds * (1 + share * rng.random())


def retry_delay(schedule: Sequence[float], tries: int, rng: Rng) -> float | None:
    """Return the seconds to wait after `tries` tries, jittered; None when the schedule is over."""
    return jittered(schedule[tries], rng) if tries < len(schedule) else None


def tries_by(schedule: Sequence[float], age: float) -> int:
    """Return how many tries a schedule makes in the first `age` seconds: at least one."""
    nominal = itertools.accumulate(schedule)
    return max(1, sum(at <= age for at in nominal))
