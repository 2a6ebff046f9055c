"""The life cycle: starts the database, the stages and the ticks, and drains them at the end.

A tick is the guarantee behind every wake-up. APScheduler is used as a clock only: every tick is
idempotent, and no job of ours is one of its jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from orchestrator.engine import deliver, poll, replay, submit
from orchestrator.engine.encryption import AddressEncryption
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.retention import Retention
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.worker import Worker
from orchestrator.foundation.clock import Clock, DisciplinedClock
from orchestrator.foundation.errors import Unavailable
from orchestrator.jobs.capacity import ensure_accounts

log = structlog.get_logger()

#: Seconds that work in progress may take to end at a stop.
DRAIN = 15.0
#: Seconds between the ticks that measure the lag of ticks.
BEAT = 1.0
#: Seconds between our clock and the database's that are worth a warning.
_DRIFT = 2.0


def make_workers(runtime: Runtime) -> dict[str, Worker[Any]]:
    """Return the loops of all stages, by name."""
    return {
        "submit": Worker("submit", runtime.assemble(submit.Submitter), limit=submit.LIMIT),
        "poll": Worker("poll", runtime.assemble(poll.Poller), limit=poll.LIMIT),
        "deliver": Worker("deliver", runtime.assemble(deliver.Deliverer), limit=deliver.LIMIT),
        "replay": Worker("replay", runtime.assemble(replay.Replayer), limit=replay.LIMIT),
    }


@contextlib.asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[None]:
    """Open the database and run stages and ticks. At the end drain, release claims, and close."""
    store, workers = runtime.store, runtime.notifier.workers
    await store.astart()
    try:
        await discipline(runtime)
        await store.write(ensure_accounts, sorted(runtime.vendors))
        if runtime.settings.role != "api":
            workers.update(make_workers(runtime))
        for worker in workers.values():
            worker.start()
            worker.wake()
        store.listen(runtime.notifier.wake_here)
        ticks = schedule(runtime)
        ticks.start()
        encryption = asyncio.create_task(_encrypt(runtime))
        try:
            yield
        finally:
            encryption.cancel()
            runtime.feed.close()
            # APScheduler's own shutdown cancels running coroutines: pause, drain, then shut down.
            ticks.pause()
            await asyncio.gather(*(worker.stop(DRAIN) for worker in workers.values()))
            ticks.shutdown(wait=False)
            await runtime.submission_client.aclose()
            await runtime.http_client.aclose()
    finally:
        await store.aclose()


def schedule(runtime: Runtime) -> AsyncIOScheduler:
    """Return the scheduler of all ticks, not started."""
    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    ticks = AsyncIOScheduler(timezone="UTC", job_defaults=defaults)

    def every(seconds: float, name: str, run: Callable[..., Awaitable[None]], *args: Any) -> None:
        jitter = None if seconds < 5 else 5
        ticks.add_job(
            _tick, "interval", seconds=seconds, args=(name, run, *args), name=name, jitter=jitter
        )

    workers = runtime.notifier.workers
    for stage in workers:
        every(1, "wake", _wake, runtime, stage)
    every(BEAT, "beat", _beat, runtime, TickLag(runtime.clock))
    every(30, "checkpoint", _checkpoint, runtime)
    every(30, "discipline", discipline, runtime)
    if workers:
        every(1, "expire", runtime.assemble(Expiry).run)
        every(60, "retain", runtime.assemble(Retention).run)
    return ticks


async def _tick(name: str, run: Callable[..., Awaitable[None]], *args: Any) -> None:
    try:
        await run(*args)
    except Unavailable as error:
        log.warning("a tick waits for the database", tick=name, error=str(error))


async def _encrypt(runtime: Runtime) -> None:
    """Encrypt what an older version stored in the clear."""
    if runtime.settings.role != "api":
        await _tick("encrypt", runtime.assemble(AddressEncryption).run)


async def _wake(runtime: Runtime, stage: str) -> None:
    runtime.notifier.wake(stage)


async def _checkpoint(runtime: Runtime) -> None:
    """Keep the write-ahead log short."""
    runtime.store.checkpoint()


async def discipline(runtime: Runtime) -> None:
    """Set our clock by the database's, where several processes share it."""
    if isinstance(runtime.clock, DisciplinedClock):
        ahead = await runtime.store.clock_offset(runtime.clock.own.now)
        runtime.clock.correct(ahead)
        if abs(ahead) > _DRIFT:
            message = "this machine's clock is wrong; the database's is used"
            log.warning(message, seconds_behind=round(ahead, 3))


class TickLag:
    """Measures how late ticks come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: float | None = None

    def measure(self) -> float:
        """Return by how many seconds this call came later than `BEAT` after the last."""
        last, self._last = self._last, self._clock.monotonic()
        return 0.0 if last is None else max(self._last - last - BEAT, 0.0)


async def _beat(runtime: Runtime, lag: TickLag) -> None:
    """Publish the lag of ticks: a blocked event loop is seen here first."""
    runtime.metrics.scheduler_lag.set(lag.measure())
