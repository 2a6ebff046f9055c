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
from orchestrator.foundation.clock import Clock, DisciplinedClock
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
async def running(runtime: Runtime) -> AsyncIterator[None]:
    """Open the database, run the stages and the ticks; at the end drain, give claims back, and close."""
    runtime.store.start()
    try:
        await discipline(runtime)
        await runtime.store.write(prepare, sorted(runtime.vendors))
        if runtime.settings.role != "api":
            runtime.workers.update(submit=submit.worker(runtime), poll=poll.worker(runtime))
            runtime.workers.update(deliver=deliver.worker(runtime), replay=replay.worker(runtime))
        for stage in runtime.workers.values():
            stage.start()
            stage.wake()
        runtime.store.listen(lambda stage: on_notification(runtime, stage))
        ticks = schedule(runtime)
        ticks.start()
        try:
            yield
        finally:
            runtime.feed.close()
            # APScheduler's own shutdown cancels running coroutines: pause, drain, then shut down.
            ticks.pause()
            await asyncio.gather(*(stage.stop(DRAIN) for stage in runtime.workers.values()))
            ticks.shutdown(wait=False)
            await runtime.submission_client.aclose()
            await runtime.http_client.aclose()
    finally:
        runtime.store.close()


def schedule(runtime: Runtime) -> AsyncIOScheduler:
    """Return the clock of the house. Every tick is idempotent, and none of them is a job of ours."""
    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    ticks = AsyncIOScheduler(timezone="UTC", job_defaults=defaults)

    def every(seconds: float, run: Callable[..., Awaitable[None]], *args: object) -> None:
        jitter = None if seconds < 5 else 5
        ticks.add_job(
            _tick, "interval", seconds=seconds, args=(run, *args), name=run.__name__, jitter=jitter
        )

    for stage in runtime.workers:
        every(1, wake_stage, runtime, stage)
    every(BEAT, beat, runtime, Beats(runtime.clock))
    every(30, checkpoint, runtime)
    every(30, discipline, runtime)
    if not runtime.workers:
        return ticks
    every(1, poll.expire, runtime)
    every(60, retire, runtime, Progress())
    return ticks


async def _tick(run: Callable[..., Awaitable[None]], *args: object) -> None:
    try:
        await run(*args)
    except Unavailable as error:
        log.warning("a tick waits for the database", tick=run.__name__, error=str(error))


async def wake_stage(runtime: Runtime, stage: str) -> None:
    """The promise behind every nudge."""
    runtime.wake(stage)


def on_notification(runtime: Runtime, stage: str) -> None:
    """Look for work because another process says that there is some."""
    if stage in runtime.workers:
        runtime.workers[stage].wake()


async def discipline(runtime: Runtime) -> None:
    """Set our clock by the database's, where several processes share it."""
    if isinstance(runtime.clock, DisciplinedClock):
        ahead = await runtime.store.ahead(runtime.clock.own.now)
        runtime.clock.correct(ahead)
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


async def beat(runtime: Runtime, beats: Beats) -> None:
    """Tell by how much ticks come late: a loop that is blocked is seen here first."""
    runtime.metrics.scheduler_lag.set(beats.late())


async def checkpoint(runtime: Runtime) -> None:
    """Keep the write-ahead log short."""
    runtime.store.checkpoint()
