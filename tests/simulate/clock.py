"""The start time of every run, and the skewed clock of a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 20, 10, tzinfo=UTC)


class SkewedClock:
    """Virtual time with the skew of one machine's clock."""

    def __init__(self, time: Callable[[], float], skew: float) -> None:
        self._time = time
        self._skew = timedelta(seconds=skew)

    def now(self) -> datetime:
        return START + timedelta(seconds=self._time()) + self._skew

    def wall(self) -> datetime:
        return self.now()

    def stamp(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return self._time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
