"""The life cycle: starts the database, the stages and the ticks, and drains them at the end.

A tick is the guarantee behind every wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog

from orchestrator.engine import deliver, poll, replay, submit
from orchestrator.engine.account_holds import AccountHolds
from orchestrator.engine.encryption import AddressEncryption
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.public_url_check import PublicUrlCheck
from orchestrator.engine.push_watch import PushWatch
from orchestrator.engine.recovery import Recovery
from orchestrator.engine.retention import Retention
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.ticker import BEAT, Ticker, run_tick
from orchestrator.engine.worker import Worker
from orchestrator.foundation.clock import DisciplinedClock
from orchestrator.foundation.errors import ConfigError
from orchestrator.jobs.capacity import ensure_accounts

log = structlog.get_logger()

#: Seconds that work in progress may take to end at a stop.
DRAIN = 15.0
#: Seconds between the times at which what was learned is stored and read.
LEARN = 4.0
#: Seconds after a start at which the rest is loaded.
_SETTLED = 0.3
#: Seconds by which a reference clock changes that are worth a warning.
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
        await runtime.learning.run()
        await store.listen(runtime.notifier.wake_here)
        if runtime.settings.role != "api":
            await runtime.assemble(Recovery).start()
            await runtime.assemble(AccountHolds).start()
            workers.update(make_workers(runtime))
        for worker in workers.values():
            worker.start()
            worker.wake()
        ticks = schedule(runtime)
        after = (_finish(runtime, ticks), _encrypt(runtime))
        background = [asyncio.create_task(work) for work in after]
        runtime.pulse.beat()
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            runtime.feed.close()
            # APScheduler's own shutdown cancels running coroutines: pause, drain, then shut down.
            ticks.pause()
            await asyncio.gather(*(worker.stop(DRAIN) for worker in workers.values()))
            ticks.stop()
            await runtime.submission_client.aclose()
            await runtime.http_client.aclose()
            await runtime.publishers.aclose()
    finally:
        await store.aclose()


def schedule(runtime: Runtime) -> Ticker:
    """Return all ticks, not started."""
    ticker, workers = Ticker(runtime.clock, runtime.rng), runtime.notifier.workers
    for stage in workers:
        ticker.every(1, "wake", _wake, runtime, stage)
    ticker.every(BEAT, "beat", _beat, runtime)
    ticker.every(30, "checkpoint", _checkpoint, runtime)
    ticker.every(30, "discipline", discipline, runtime)
    ticker.every(LEARN, "learn", runtime.learning.run)
    if workers:
        ticker.every(5, "watch pushes", runtime.assemble(PushWatch).run)
        ticker.every(1, "recover", runtime.assemble(Recovery).run)
        ticker.every(2, "holds", runtime.assemble(AccountHolds).run)
        ticker.every(1, "expire", runtime.assemble(Expiry).run)
        if seconds := runtime.settings.public_url_check:
            ticker.every(seconds, "public URL", runtime.assemble(PublicUrlCheck).run)
        ticker.every(60, "retain", runtime.assemble(Retention).run)
    return ticker


async def _finish(runtime: Runtime, ticks: Ticker) -> None:
    """Finish the start: load what a service is ready without, and soon needs.

    Not at once: the thread would take the processor from the first requests. A request to others
    that is made before loads what it needs.
    """
    await runtime.clock.sleep(_SETTLED)
    await ticks.start()
    try:
        for client in (runtime.http_client, runtime.submission_client):
            await client.load()
    except ConfigError as error:
        log.error("no request can be made", error=str(error))


async def _encrypt(runtime: Runtime) -> None:
    """Encrypt what an older version stored in the clear."""
    if runtime.settings.role != "api":
        await run_tick("encrypt", runtime.assemble(AddressEncryption).run)


async def _wake(runtime: Runtime, stage: str) -> None:
    runtime.notifier.wake(stage)


async def _checkpoint(runtime: Runtime) -> None:
    """Keep the write-ahead log short."""
    runtime.store.checkpoint()


async def discipline(runtime: Runtime) -> None:
    """Correct our clock by the database's if several processes share it, else by the system's."""
    clock, shared = runtime.clock, runtime.store.shared
    if not isinstance(clock, DisciplinedClock):
        return
    if shared:
        ahead = await runtime.store.clock_offset(clock.own.now)
    else:
        ahead = (clock.own.wall() - clock.own.now()).total_seconds()
    moved = clock.correct(ahead)
    if abs(moved) > _DRIFT:
        log.warning(
            "a clock was set, or is wrong: work goes on evenly, and a restart takes the new time",
            clock="database" if shared else "system",
            seconds_ahead=round(moved, 3),
        )


async def _beat(runtime: Runtime) -> None:
    """Publish the lag of ticks, where a blocked event loop is seen first, and what we use."""
    runtime.pulse.beat()
    runtime.metrics.ticked(runtime.pulse.lag)
