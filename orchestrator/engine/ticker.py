"""Ticks by the monotonic clock, and whether they go on.

APScheduler 3 reckons by the clock of the system: when it is set back, all jobs stand still for as
long, and when it is set forward, every run that was missed is listed
(https://github.com/agronholm/apscheduler/issues/351, .../issues/1066). It reads the time by
`datetime.now(timezone)` alone, so it is given a time zone that shows the monotonic clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from apscheduler.triggers.base import BaseTrigger

from orchestrator.foundation.clock import EPOCH, Clock, Rng
from orchestrator.foundation.errors import Unavailable

if TYPE_CHECKING:
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

log = structlog.get_logger()

#: Seconds between the ticks that measure the lag of ticks.
BEAT = 1.0
#: Seconds without such a tick after which they have stopped.
STOPPED = 10.0
#: Longer intervals are jittered by up to so many seconds, so that replicas do not tick together.
_JITTER = 5.0


class MonotonicZone(tzinfo):
    """A time zone in which it is always as many seconds after 1970 as the monotonic clock shows."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def fromutc(self, _: datetime) -> datetime:
        return EPOCH.replace(tzinfo=self) + timedelta(seconds=self._clock.monotonic())

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        return "monotonic"


class Every(BaseTrigger):  # type: ignore[misc]
    """Fires every so many seconds; what was missed meanwhile is one late run."""

    def __init__(self, seconds: float, rng: Rng) -> None:
        self._seconds = seconds
        self._rng = rng

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the next time after `now`."""
        jitter = self._rng.uniform(0, _JITTER) if self._seconds >= _JITTER else 0.0
        interval = timedelta(seconds=self._seconds + jitter)
        planned = (previous or now) + interval
        return planned if planned > now else now + interval


class Pulse:
    """How late ticks come. The first beat starts it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: float | None = None
        self._lag = 0.0

    def beat(self) -> None:
        """Note a tick, one every `BEAT` seconds."""
        self._lag, self._last = self._overdue(), self._clock.monotonic()

    @property
    def lag(self) -> float:
        """By how many seconds the last tick came late, or the next one is late already."""
        return max(self._lag, self._overdue())

    @property
    def stopped(self) -> bool:
        """True if ticks come no longer."""
        return self._overdue() > STOPPED

    def _overdue(self) -> float:
        last = self._last
        return 0.0 if last is None else max(self._clock.monotonic() - last - BEAT, 0.0)


class Tick(NamedTuple):
    """What is run every so many seconds."""

    name: str
    every: Every
    run: Callable[..., Awaitable[None]]
    args: tuple[Any, ...]


class Ticker:
    """The ticks of one process. Each is idempotent, and no job of ours is one of its jobs."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._rng = rng
        self._zone = MonotonicZone(clock)
        self.ticks: list[Tick] = []
        self._scheduler: AsyncIOScheduler | None = None

    def every(
        self, seconds: float, name: str, run: Callable[..., Awaitable[None]], *args: Any
    ) -> None:
        """From `start` on, await `run(*args)` every so many seconds, never twice at once."""
        self.ticks.append(Tick(name, Every(seconds, self._rng), run, args))

    async def start(self) -> None:
        """Start, once a thread has loaded APScheduler; `Pulse` finds a start that fails."""
        self._scheduler = scheduler = await asyncio.to_thread(_scheduler, self._zone)
        for tick in self.ticks:
            args = (tick.name, tick.run, *tick.args)
            scheduler.add_job(run_tick, tick.every, args=args, name=tick.name)
        scheduler.start()

    def pause(self) -> None:
        """Begin no more runs."""
        if self._scheduler is not None:
            self._scheduler.pause()

    def stop(self) -> None:
        """Cancel what runs, and end."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)


def _scheduler(zone: tzinfo) -> AsyncIOScheduler:
    # Here: to load its plug-ins, the library reads the metadata of every installed distribution.
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    defaults = {"max_instances": 1, "misfire_grace_time": None}
    return AsyncIOScheduler(timezone=zone, job_defaults=defaults)


async def run_tick(name: str, run: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Await `run(*args)`; the database may be away."""
    try:
        await run(*args)
    except Unavailable as error:
        log.warning("a tick waits for the database", tick=name, error=str(error))
