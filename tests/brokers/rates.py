"""Measure rates: events per second through the deliverer, beside the client library alone.

`python -m tests.brokers.rates [KIND ...]`. In one run, alternating, so that both meet the same
machine. The client alone has as many messages in flight as the subscriber. `crossing` is the cost
of a call to the thread of the brokers and back, without a broker; `webhook` the rate of the
deliverer without a network, which is the database's.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.events.destinations import Publication, Publisher, Target, load
from tests.brokers import servers
from tests.brokers.delivering import delivering
from tests.brokers.events import event
from tests.brokers.server import BrokerServer

EVENTS, IN_FLIGHT, ROUNDS = 4000, 256, 3
_HOOK = Target("https://hooks.example.com/")
_BODY = b'{"type":"job.succeeded","data":' + b'{"id":"job_1","input":"' + b"x" * 500 + b'"}}'


async def crossing() -> float:
    """Return microseconds for one call, of many at once."""
    loop = BrokerLoop(AddressPolicy())

    async def nothing() -> None:
        return None

    await loop.run(nothing, 5)
    began = time.perf_counter()
    for _ in range(20):
        await asyncio.gather(*(loop.run(nothing, 5) for _ in range(IN_FLIGHT)))
    took = time.perf_counter() - began
    await loop.aclose()
    return took / (20 * IN_FLIGHT) * 1e6


async def alone(server: BrokerServer) -> float:
    """Return messages per second of the client library."""
    await server.prepare()
    async with server.client_alone(_BODY) as client:
        left = iter(range(EVENTS))

        async def one() -> None:
            for n in left:
                await client.publish(f"evt_{n}")

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
        return EVENTS / (time.perf_counter() - began)


async def pooled(server: BrokerServer) -> float:
    """Return messages per second through the pool: the thread and the kept connection."""
    await server.prepare()
    pool = PublisherPool(BrokerLoop(AddressPolicy(["127.0.0.0/8"])))
    of, to = load()[server.kind], server.target()
    assert isinstance(of, Publisher)
    place = of.encode(to, event())
    left = iter(range(EVENTS))

    async def one() -> None:
        for n in left:
            headers = {**place.headers, "id": f"evt_{n}", "Nats-Msg-Id": f"evt_{n}"}
            sent = Publication(f"evt_{n}", place.to, _BODY, headers, "job_1")
            await pool.publish("sub_1", of, to, sent, lambda: True, 15)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
    rate = EVENTS / (time.perf_counter() - began)
    await pool.aclose()
    return rate


async def delivered(kind: str, to: Target) -> float:
    """Return events per second through the deliverer, from committed rows to recorded attempts."""
    with tempfile.TemporaryDirectory() as folder:
        async with delivering(Path(folder)) as d:
            await d.add(kind, to, IN_FLIGHT)
            await d.publish(EVENTS)
            began = time.perf_counter()
            await d.until(lambda states: states.get("delivered", 0) == EVENTS, 120)
            return EVENTS / (time.perf_counter() - began)


async def measure(kinds: list[str]) -> None:
    """Print a line for each kind."""
    print(f"crossing: {await crossing():.0f} us a call")
    for kind, server_class in sorted(servers.load().items()):
        if server_class.absent() or (kinds and kind not in kinds):
            continue
        with tempfile.TemporaryDirectory() as folder:
            server = server_class(Path(folder))
            with server.running():
                found: dict[str, list[float]] = defaultdict(list)
                for _ in range(ROUNDS):
                    found["client"].append(await alone(server))
                    found["pool"].append(await pooled(server))
                    await server.prepare()
                    found["deliverer"].append(await delivered(kind, server.target()))
                    found["webhook"].append(await delivered("webhook", _HOOK))
        shown = [
            f"{name} {statistics.median(rates):,.0f}/s ({min(rates):,.0f}-{max(rates):,.0f})"
            for name, rates in found.items()
        ]
        print(f"{kind}: {', '.join(shown)}")


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1:]))
