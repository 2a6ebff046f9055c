"""A real deliverer against a broker: events of jobs, one subscriber, the worker of the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
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
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.states import EventType, Source
from tests.brokers.server import BrokerServer
from tests.harness.runtime import settings

#: Events that one transaction publishes.
_AT_ONCE = 500
_DATA = {"object": "job", "status": "succeeded", "input": {"prompt": "a cat"}, "model": "kling-v3"}


class Delivering:
    """A runtime whose only stage is the deliverer, and its database."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.worker = Worker("deliver", runtime.assemble(Deliverer), limit=LIMIT)
        runtime.notifier.workers["deliver"] = self.worker

    async def subscribe(self, server: BrokerServer, in_flight: int) -> None:
        """Add a subscriber of the server's target."""
        await self.add(server.kind, server.target(), in_flight)

    async def add(self, kind: str, to: Target, in_flight: int) -> None:
        """Add a subscriber of final events."""
        runtime = self.runtime
        row, _ = subscribers.new(
            runtime.ids, runtime.keys, destination=runtime.destinations[kind], url=to.address,
            types=["job.succeeded"], description="", headers={}, options=to.options,
            rate_limit=None, max_in_flight=in_flight, now=runtime.clock.now(),
        )  # fmt: skip
        row["credentials"] = runtime.keys.encrypt(json.dumps(dict(to.credentials)))
        await runtime.store.write(subscribers.add, row)

    async def publish(self, count: int) -> None:
        """Commit `count` events, each with its delivery."""
        for done in range(0, count, _AT_ONCE):
            await self.runtime.store.write(self._publish, min(_AT_ONCE, count - done))

    def _publish(self, tx: Tx, count: int) -> None:
        events = [
            NewEvent(EventType.JOB_SUCCEEDED, Source.PUSH, {"id": f"job_{n}", **_DATA})
            for n in range(count)
        ]
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
