"""What runs while the service lives: the loops of the stages, and the ticks, the promise behind every nudge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from orchestrator.engine import deliver, poll, replay, submit
from orchestrator.engine.retention import Progress, retire
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.clock import Clock, Disciplined
from orchestrator.foundation.errors import Unavailable
from orchestrator.jobs.capacity import prepare

log = structlog.get_logger()

#: Seconds that work under way may take to end when we are told to stop.
DRAIN = 15.0
#: Seconds between ticks that only tell whether they are on time.
BEAT = 1.0
#: Seconds between our clock and the database's that are worth telling the operator.
_DRIFT = 2.0


@contextlib.asynccontextmanager
async def running(rt: Runtime) -> AsyncIterator[None]:
    """Open the database, run the stages and the ticks; at the end drain, give claims back, and close."""
    rt.store.start()
    try:
        await discipline(rt)
        await rt.store.write(prepare, sorted(rt.vendors))
        if rt.settings.role != "api":
            rt.workers.update(submit=submit.worker(rt), poll=poll.worker(rt))
            rt.workers.update(deliver=deliver.worker(rt), replay=replay.worker(rt))
        for stage in rt.workers.values():
            stage.start()
            stage.nudge()
        rt.store.listen(lambda stage: hear(rt, stage))
        ticks = schedule(rt)
        ticks.start()
        try:
            yield
        finally:
            rt.tail.close()
            # APScheduler's own shutdown cancels running coroutines: pause, drain, then shut down.
            ticks.pause()
            await asyncio.gather(*(stage.stop(DRAIN) for stage in rt.workers.values()))
            ticks.shutdown(wait=False)
            await rt.submissions.aclose()
            await rt.internet.aclose()
    finally:
        rt.store.close()


def schedule(rt: Runtime) -> AsyncIOScheduler:
    """Return the clock of the house. Every tick is idempotent, and none of them is a job of ours."""
    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    ticks = AsyncIOScheduler(timezone="UTC", job_defaults=defaults)

    def every(seconds: float, run: Callable[..., Awaitable[None]], *args: object) -> None:
        jitter = None if seconds < 5 else 5
        ticks.add_job(
            _tick, "interval", seconds=seconds, args=(run, *args), name=run.__name__, jitter=jitter
        )

    for stage in rt.workers:
        every(1, nudge, rt, stage)
    every(BEAT, beat, rt, Beats(rt.clock))
    every(30, checkpoint, rt)
    every(30, discipline, rt)
    if not rt.workers:
        return ticks
    every(1, poll.expire, rt)
    every(60, retire, rt, Progress())
    return ticks


async def _tick(run: Callable[..., Awaitable[None]], *args: object) -> None:
    try:
        await run(*args)
    except Unavailable as error:
        log.warning("a tick waits for the database", tick=run.__name__, error=str(error))


async def nudge(rt: Runtime, stage: str) -> None:
    """The promise behind every nudge."""
    rt.nudge(stage)


def hear(rt: Runtime, stage: str) -> None:
    """Look for work because another process says that there is some."""
    if stage in rt.workers:
        rt.workers[stage].nudge()


async def discipline(rt: Runtime) -> None:
    """Set our clock by the database's, where several processes share it."""
    if isinstance(rt.clock, Disciplined):
        ahead = await rt.store.ahead(rt.clock.own.now)
        rt.clock.correct(ahead)
        if abs(ahead) > _DRIFT:
            log.warning(
                "this machine's clock is wrong; the database's is used",
                seconds_behind=round(ahead, 3),
            )


class Beats:
    """When the scheduler was last seen to be on time, or late."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: float | None = None

    def late(self) -> float:
        """Return by how many seconds this call came later than `BEAT` after the last."""
        last, self._last = self._last, self._clock.monotonic()
        return 0.0 if last is None else max(self._last - last - BEAT, 0.0)


async def beat(rt: Runtime, beats: Beats) -> None:
    """Tell by how much ticks come late: a loop that is blocked is seen here first."""
    rt.metrics.scheduler_lag.set(beats.late())


async def checkpoint(rt: Runtime) -> None:
    """Keep the write-ahead log short."""
    rt.store.checkpoint()
