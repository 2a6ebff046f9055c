"""A real deliverer against a broker: events of jobs, one subscriber, the worker of the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from orchestrator.app import build
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, subscriber
from orchestrator.engine.deliver import LIMIT, Deliverer
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.worker import Worker
from orchestrator.events import subscribers
from orchestrator.events.destinations import Target
from orchestrator.events.outbox import EventJob, NewEvent, publish
from orchestrator.foundation.states import EventType, Source
from tests.harness.runtime import settings

#: The events of a job that succeeds.
STEPS = (EventType.JOB_SUBMITTED, EventType.JOB_PROCESSING, EventType.JOB_SUCCEEDED)
#: Jobs whose events one transaction publishes.
_AT_ONCE = 500
_DATA = {"object": "job", "input": {"prompt": "a cat"}, "model": "kling-v3"}


class Delivering:
    """A runtime whose only stage is the deliverer, and its database."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.worker = Worker("deliver", runtime.assemble(Deliverer), limit=LIMIT)
        runtime.notifier.workers["deliver"] = self.worker

    async def add(self, kind: str, to: Target, in_flight: int, *, ordered: bool = False) -> None:
        """Add a subscriber of the events of jobs."""
        runtime = self.runtime
        row, _ = subscribers.new(
            runtime.ids, runtime.keys, destination=runtime.destinations[kind], url=to.address,
            types=["job.*"], description="", headers={}, options=to.options,
            rate_limit=None, max_in_flight=in_flight, now=runtime.clock.now(), ordered=ordered,
        )  # fmt: skip
        row["credentials"] = runtime.keys.encrypt(json.dumps(dict(to.credentials)))
        await runtime.store.write(subscribers.add, row)

    async def publish(self, jobs: int, steps: Sequence[EventType] = STEPS[-1:]) -> None:
        """Commit the events of so many jobs, `steps` for each, with their deliveries."""
        for first in range(0, jobs, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, jobs))
            await self.runtime.store.write(self._publish, numbers, steps)

    def _publish(self, tx: Tx, jobs: range, steps: Sequence[EventType]) -> None:
        events = [_event(f"job_{n}", step, place) for n in jobs for place, step in enumerate(steps)]
        publish(tx, self.runtime.ids, events, self.runtime.clock.now())

    async def until(self, done: Callable[[dict[str, int]], bool], seconds: float) -> None:
        """Wake the worker until the numbers of deliveries by state are as wanted."""
        async with asyncio.timeout(seconds):
            while not done(await self.states()):
                self.worker.wake()
                await asyncio.sleep(0.05)

    async def states(self) -> dict[str, int]:
        """Return the number of deliveries in each state."""
        select = sa.select(delivery.c.state, sa.func.count()).group_by(delivery.c.state)
        return dict(
            await self.runtime.store.read(lambda tx: [tuple(r) for r in tx.execute(select)])
        )

    async def ids(self) -> list[str]:
        """Return the ids of all events that are owed."""
        select = sa.select(delivery.c.event_id)
        return await self.runtime.store.read(lambda tx: list(tx.scalars(select)))

    async def attempts(self) -> list[dict[str, Any]]:
        """Return all attempts."""
        select = sa.select(attempt)
        return await self.runtime.store.read(
            lambda tx: [dict(row) for row in tx.execute(select).mappings()]
        )

    async def subscriber(self) -> dict[str, Any]:
        """Return the subscriber."""
        select = sa.select(subscriber)
        return await self.runtime.store.read(lambda tx: dict(tx.execute(select).mappings().one()))


def _event(job: str, step: EventType, place: int) -> NewEvent:
    data = {"id": job, "status": step.removeprefix("job."), **_DATA}
    about: EventJob = {"id": job, "callback_lane": None, "callback_events": None}
    return NewEvent(step, Source.PUSH, data, place + 1, about)


async def _accept(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


@contextlib.asynccontextmanager
async def delivering(folder: Path) -> AsyncIterator[Delivering]:
    """Open a runtime on its own database, which may reach loopback."""
    runtime = build(
        settings(folder, allow_private=["127.0.0.0/8"]), transport=httpx.MockTransport(_accept)
    )
    await runtime.store.astart()
    made = Delivering(runtime)
    made.worker.start()
    try:
        yield made
    finally:
        await made.worker.stop(5)
        await runtime.publishers.aclose()
        await runtime.submission_client.aclose()
        await runtime.http_client.aclose()
        await runtime.store.aclose()
