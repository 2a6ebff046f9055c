"""The consumers on the page, against real brokers: each handles every event once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from orchestrator.engine.deliver_publishers import PublisherPool
from tests.brokers.events import event
from tests.brokers.server import BrokerServer
from tests.brokers.servers.kafka import KafkaServer
from tests.brokers.servers.nats import NatsServer
from tests.brokers.servers.rabbitmq import RabbitMqServer
from tests.brokers.servers.redis import RedisServer
from tests.brokers.test_publishers import publish
from tests.harness.documents import chosen

Consume = Callable[[Any, Callable[[Any], Awaitable[None]], set[Any]], Awaitable[None]]


def on_the_page(kind: str) -> Consume:
    """Return the consumer of a kind."""
    [block] = chosen("python", f"as a consumer, {kind}")
    names: dict[str, Any] = {}
    exec(compile(block.code, str(block), "exec", dont_inherit=True), names)
    found: Consume = names["consume"]
    return found


@contextlib.asynccontextmanager
async def connected(server: BrokerServer) -> AsyncIterator[Any]:
    """Connect as the page says."""
    if isinstance(server, NatsServer):
        async with server.client() as client:
            yield client
    elif isinstance(server, RedisServer):
        async with server.client() as redis:
            await redis.xgroup_create("video-events", "renders", "0", mkstream=True)
            yield redis
    elif isinstance(server, KafkaServer):
        async with server.consumer() as consumer:
            yield consumer
    else:
        assert isinstance(server, RabbitMqServer)
        async with server.queue() as queue:
            yield queue


async def test_a_consumer_handles_each_event_once(
    server: BrokerServer, pool: PublisherPool
) -> None:
    handled: list[str] = []
    complete = asyncio.Event()

    async def handle(found: Any) -> None:
        handled.append(found["id"])
        if found["id"] == "evt_19":
            complete.set()

    async with connected(server) as client:
        consuming = asyncio.ensure_future(on_the_page(server.kind)(client, handle, set()))
        for number in (*range(19), *range(19), 19):
            await publish(pool, server, event(number))
        async with asyncio.timeout(10):
            await complete.wait()
            while not consuming.done():
                # Between two commands, redis-py loses a cancellation.
                consuming.cancel()
                await asyncio.sleep(0.01)
    assert handled == [f"evt_{number}" for number in range(20)]
