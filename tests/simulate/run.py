"""One run: the plan of a seed, carried out; then calm, and everything must come to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from tests.simulate.endings import unfinished, wrong
from tests.simulate.loop import Idle
from tests.simulate.people import operator, resume_all
from tests.simulate.plan import plan_of
from tests.simulate.world import Violation, World, settings_of

#: Seconds of calm after which a job must be final (from its deadline, if that is later), and a delivery done.
JOBS_END, DELIVERIES_END = 600.0, 4 * 86400.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    seed: int
    digest: str
    violation: str | None
    trace: list[str]
    counts: Counter[str]
    steps: int
    #: Virtual.
    seconds: float
    jobs: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, shown: int = 60) -> Result:
    """Carry out the plan of a seed; keep the last `shown` lines of its trace."""
    plan = plan_of(seed)
    world = World(plan, settings_of(plan))
    violation: str | None = None
    with _overheard(world):
        try:
            world.loop.run_until_complete(_run(world))
        except (Violation, Idle, AssertionError) as error:
            violation = f"{type(error).__name__}: {error}"
        finally:
            jobs = Counter(row.state for row in world.checker.books.jobs.values())
            result = Result(
                seed, world.trace.digest(), violation, world.trace.last(shown), world.counts, world.loop.steps,
                world.loop.time(), jobs,
            )  # fmt: skip
            world.loop.dispose()
    return result


async def _run(world: World) -> None:
    for replica in world.replicas:
        replica.start()
    for caller in world.callers:
        world.spawn(caller.run())
    world.spawn(operator(world))
    await asyncio.sleep(world.plan.calm_at)
    world.calm = True
    world.trace.say("calm")
    ends = {
        "job": world.plan.calm_at + 3600 + JOBS_END,
        "delivery": world.plan.calm_at + DELIVERIES_END,
    }
    while left := unfinished(world):
        # Again and again: a pause that somebody sent before the calm may arrive after it.
        await resume_all(world)
        for kind, name in left:
            if world.loop.time() > ends[kind]:
                raise Violation(f"{name} does not end")
        await asyncio.sleep(20 if any(kind == "job" for kind, _ in left) else 600)
    if complaints := wrong(world):
        raise Violation("; ".join(complaints))


@contextlib.contextmanager
def _overheard(world: World) -> Iterator[None]:
    """Let nothing be logged, and take an error that the product logs for a violation: it says that one is a bug."""

    def listen(_: object, method: str, event: MutableMapping[str, Any]) -> str:
        world.complain(
            f"the product logged {method}: {event.get('event')} {event.get('exception', '')}"
        )
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[listen],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
