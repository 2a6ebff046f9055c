"""Ticks of the engine in virtual time. Ticks without due work are skipped: days become cheap."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from orchestrator.engine.account_holds import AccountHolds
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.lifecycle import LEARN
from orchestrator.engine.push_watch import PushWatch
from orchestrator.engine.recovery import Recovery
from orchestrator.engine.retention import Retention
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import Unavailable

if TYPE_CHECKING:
    from tests.simulate.world import World

#: Seconds between ticks, between retention runs, and the longest wait.
TICK, _RETENTION_INTERVAL, _MAX_WAIT = 1.0, 600.0, 1e7
#: Seconds between looks at silent accounts.
_WATCH = 5.0


async def tick(world: World, runtime: Runtime, wake: asyncio.Event) -> None:
    """Tick every second while work is due."""
    margin = TICK + world.plan.skew
    recover = runtime.assemble(Recovery).run
    expire, retain = runtime.assemble(Expiry).run, runtime.assemble(Retention).run
    look = runtime.assemble(AccountHolds).run
    retained_at, expiring, retiring, recovering = 0.0, _nothing(), _nothing(), _nothing()
    looking, learning, watching = _nothing(), _nothing(), _nothing()
    learn, watch = runtime.learning.run, runtime.assemble(PushWatch).run
    learned_at = watched_at = world.loop.time()
    while True:
        now = world.loop.time()
        for stage in world.checker.next_due.stages(now + margin):
            runtime.notifier.wake(stage)
        if world.checker.next_due.deadline <= now + margin and expiring.done():
            expiring = asyncio.ensure_future(_ignore_unavailable(expire))
        if world.checker.next_due.look <= now + margin and looking.done():
            looking = asyncio.ensure_future(_ignore_unavailable(look))
        if recovering.done():
            recovering = asyncio.ensure_future(_ignore_unavailable(recover))
        if now - retained_at > _RETENTION_INTERVAL and retiring.done():
            retained_at, retiring = now, asyncio.ensure_future(_ignore_unavailable(retain))
        if now - learned_at >= LEARN and learning.done():
            learned_at, learning = now, asyncio.ensure_future(_ignore_unavailable(learn))
        if now - watched_at >= _WATCH and watching.done():
            watched_at, watching = now, asyncio.ensure_future(_ignore_unavailable(watch))
        await asyncio.sleep(TICK)
        wake.clear()
        world.checker.work_goes_on()
        rest = world.checker.next_due.first - world.loop.time() - margin
        if world.loop.time() < world.checker.learned.awake_until:
            continue
        if rest > 0 and not world.has_lost_processes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(rest, _MAX_WAIT)):
                    await wake.wait()


def _nothing() -> asyncio.Future[None]:
    """Return a finished future."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


async def _ignore_unavailable(tick: Callable[[], Awaitable[None]]) -> None:
    """Run a job of a tick. While the database is unavailable, the next tick repeats it."""
    with contextlib.suppress(Unavailable):
        await tick()
