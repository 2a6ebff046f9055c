"""Time and chance as ports, and the arithmetic of waiting as pure functions.

Nothing else in the product reads a clock, sleeps or draws a random number, so a test can run all of it in virtual time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

Rng = random.Random

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Seconds before each attempt at a delivery; Standard Webhooks' example schedule (10 attempts over 75 h 35 m).
STANDARD_SCHEDULE = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
#: For answers that say the subscriber is misconfigured (404, 401, ...): long enough for a deploy to recover.
SHORT_SCHEDULE = STANDARD_SCHEDULE[:4]
#: Seconds before each try at a submission that did not leave us, or was refused for now.
SUBMIT_SCHEDULE = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 300.0, 600.0)


class Clock(Protocol):
    """What the product knows of time."""

    def now(self) -> datetime:
        """Return the instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, for measuring."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the instant, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(seconds)


class DisciplinedClock:
    """Another clock, set right by the database's, so that all who share the database agree on what is due."""

    def __init__(self, clock: Clock) -> None:
        self.own = clock
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the instant by the database's clock, as far as it is known."""
        return self.own.now() + self._ahead

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self.own.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.own.sleep(seconds)

    def correct(self, ahead: float) -> None:
        """Take it that the database's clock is so many seconds ahead of the one underneath."""
        self._ahead = timedelta(seconds=ahead)


def after(now: datetime, seconds: float) -> datetime:
    """Return the instant `seconds` later."""
    return now + timedelta(seconds=seconds)


def epoch_ms(at: datetime) -> int:
    """Return whole milliseconds since 1970."""
    since = at - EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def from_epoch(value: float) -> datetime:
    """Return the instant of a vendor's number, in seconds or in milliseconds.

    Vendors mix both, new-api even within one answer; anything above 1e11 (the year 5138 in seconds) is milliseconds.
    """
    return EPOCH + timedelta(seconds=value / 1000 if abs(value) > 1e11 else value)


def rfc3339(at: datetime) -> str:
    """Return `2026-11-20T10:00:00.000Z`."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def grown(first: float, times: int, *, factor: float, most: float) -> float:
    """Return `first`, grown by `factor` `times` times, at most `most`."""
    # Bounded exponent: factor ** 10_000 is no float.
    return min(most, first * factor ** min(times, 64))


def jittered(seconds: float, rng: Rng, share: float = 0.2) -> float:
    """Return up to `share` more, never less: a floor somebody asked for (Retry-After) stays one."""
    return seconds * (1 + share * rng.random())


def retry_delay(schedule: Sequence[float], tries: int, rng: Rng) -> float | None:
    """Return the seconds to wait after `tries` tries, or None when the schedule is used up."""
    return jittered(schedule[tries], rng) if tries < len(schedule) else None
