"""Runs the plan of a seed, then stops the faults and waits until all work has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from tests.simulate.clients import operator, resume_all
from tests.simulate.final_checks import unfinished, violations
from tests.simulate.learned import STORED_WITHIN
from tests.simulate.loop import Stalled
from tests.simulate.plan import plan_of
from tests.simulate.world import Violation, World, settings_of

#: Virtual seconds of calm after which a job must be final (or after its deadline, if later), and a
#: delivery must have ended.
JOBS_END, DELIVERIES_END = 600.0, 4 * 86400.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run."""

    seed: int
    digest: str
    violation: str | None
    trace: list[str]
    counts: Counter[str]
    steps: int
    #: Virtual seconds.
    seconds: float
    jobs: Counter[str] = field(default_factory=Counter)


def simulate(seed: int, shown: int = 60) -> Result:
    """Run the plan of a seed. Keep the last `shown` lines of the trace."""
    plan = plan_of(seed)
    world = World(plan, settings_of(plan))
    violation: str | None = None
    with _fail_on_logged_errors(world):
        try:
            world.loop.run_until_complete(_run(world))
        except (Violation, Stalled, AssertionError) as error:
            violation = f"{type(error).__name__}: {error}"
        finally:
            jobs = Counter(row.state for row in world.checker.committed.jobs.values())
            trace, loop = world.trace, world.loop
            result = Result(
                seed, trace.digest(), violation, trace.last(shown), world.counts, loop.steps,
                loop.time(), jobs,
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
    world.trace.add("calm")
    ends = {
        "job": world.plan.calm_at + 3600 + JOBS_END,
        "delivery": world.plan.calm_at + DELIVERIES_END,
    }
    while left := unfinished(world):
        # Repeated, since a pause sent before the calm phase may arrive during it.
        await resume_all(world)
        for kind, name in left:
            if world.loop.time() > ends[kind]:
                raise Violation(f"{name} has not ended")
        await asyncio.sleep(20 if any(kind == "job" for kind, _ in left) else 600)
    await _store_all(world)
    if violations_found := violations(world):
        raise Violation("; ".join(violations_found))


async def _store_all(world: World) -> None:
    """Wait until every process that lives has stored what it has learned."""
    processes = [replica.process for replica in world.replicas if replica.process is not None]
    await asyncio.sleep(max(0.0, *(one.frozen_until - world.loop.time() for one in processes)))
    world.checker.learned.stay_awake()
    await asyncio.sleep(STORED_WITHIN)


@contextlib.contextmanager
def _fail_on_logged_errors(world: World) -> Iterator[None]:
    """Discard logs. An error logged by the product is a violation: it reports a bug."""

    def listen(_: object, method: str, event: MutableMapping[str, Any]) -> str:
        world.report_violation(
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
