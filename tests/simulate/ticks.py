"""The ticks of the house, over virtual time. One that would find nothing due is left out, so that days cost nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from orchestrator.engine.expiry import Expiry
from orchestrator.engine.retention import Retention
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import Unavailable

if TYPE_CHECKING:
    from tests.simulate.world import World

#: Seconds of a tick; between two looks for rows that nobody needs; and the longest that nothing at all happens.
TICK, _TIDY, _LONG = 1.0, 600.0, 1e7


async def tick(world: World, runtime: Runtime, wake: asyncio.Event) -> None:
    """Tick every second; a tick that would find nothing due is left out."""
    margin = TICK + world.plan.skew
    expire, retain = runtime.assemble(Expiry).run, runtime.assemble(Retention).run
    tidied, expiring, retiring = 0.0, _nothing(), _nothing()
    while True:
        now = world.loop.time()
        for stage in world.checker.agenda.stages(now + margin):
            runtime.notifier.wake(stage)
        if world.checker.agenda.deadline <= now + margin and expiring.done():
            expiring = asyncio.ensure_future(_unless_away(expire))
        if now - tidied > _TIDY and retiring.done():
            tidied, retiring = now, asyncio.ensure_future(_unless_away(retain))
        await asyncio.sleep(TICK)
        wake.clear()
        rest = world.checker.agenda.first - world.loop.time() - margin
        if rest > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(rest, _LONG)):
                    await wake.wait()


def _nothing() -> asyncio.Future[None]:
    """Return a piece of work that is done."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


async def _unless_away(tick: Callable[[], Awaitable[None]]) -> None:
    """Run what a tick begins; without a database it is left to the next one."""
    with contextlib.suppress(Unavailable):
        await tick()
