"""Deliveries per second, every attempt recorded durably.

Limits: bare aiohttp, and one shared httpx.AsyncClient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import aiohttp
import httpx
import sqlalchemy as sa
import uvloop

from orchestrator.cli.bench import measurement, seed, verification
from orchestrator.cli.bench.load_generator import repeat, wait_for
from orchestrator.cli.bench.measurement import Plan, Result, Sample, Usage
from orchestrator.cli.bench.scratch_database import ScratchDatabase, scratch_database
from orchestrator.cli.bench.service import Child, accounts_of, child, service
from orchestrator.cli.bench.stub_subscriber import (
    Arrival,
    check_arrivals,
    count_arrivals,
    fetch_arrivals,
)
from orchestrator.database.tables import delivery
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign

IN_FLIGHT = 32
AIOHTTP, HTTPX = "bare aiohttp", "one shared httpx.AsyncClient"
_BODY = b'{"type":"job.succeeded","data":{"id":"job_x","note":"' + b"x" * 800 + b'"}}'
Headers = Callable[[], dict[str, str]]


def bench(plan: Plan) -> Result:
    """Measure the service and both limits."""
    measures = {
        "service": partial(_service, plan),
        HTTPX: partial(_client, plan, _httpx),
        AIOHTTP: partial(_client, plan, _aiohttp),
    }
    rounds = measurement.interleave(plan, "deliver", measures)
    ours, limits = rounds["service"], {AIOHTTP: rounds[AIOHTTP], HTTPX: rounds[HTTPX]}
    rate = measurement.rate("deliveries_per_s", ours, limits)
    figures = [rate, *measurement.costs("delivery", ours)]
    return Result("deliver", ours, figures, {"in_flight": IN_FLIGHT})


def _service(plan: Plan) -> Sample:
    """Make many deliveries to one subscriber due at once; lost are also unrecorded arrivals."""
    with scratch_database(plan) as database, child("stub_subscriber") as subscriber:
        with database.writing() as engine:
            seed.background(engine, plan)
            count = owe(engine, plan, subscriber.port)
        with service(database, accounts_of(plan.accounts or 1)) as process:
            arrivals, used = release(database, process, subscriber.port, count)
        integrity = check_arrivals(arrivals, count)
        integrity += verification.check_attempts(database, len(arrivals))
        return Sample(count, arrival_rate(arrivals), usage=used, integrity=integrity)


def owe(engine: sa.Engine, plan: Plan, port: int) -> int:
    """Insert about as many deliveries as a core sends in time; return their number.

    Their subscriber wants no other events.
    """
    (to,) = seed.subscribe(engine, f"http://127.0.0.1:{port}/hook", types=seed.OTHER)
    count = max(IN_FLIGHT, int(plan.seconds * 2000))
    seed.owed_deliveries(engine, count, to)
    return count


def release(
    database: ScratchDatabase, process: Child, port: int, count: int
) -> tuple[list[Arrival], Usage]:
    """Make the deliveries due, wait until all arrived; return them and the resources used."""
    before = process.usage()
    seed.make_due(database, delivery, delivery.c.id >= f"dlv_{seed.OWED}")
    arrivals = uvloop.run(all_arrivals(port, count))
    return arrivals, process.usage() - before


def arrival_rate(arrivals: Sequence[Arrival]) -> float:
    """Return arrivals per second, from the first to the last."""
    return (len(arrivals) - 1) / max(arrivals[-1].at - arrivals[0].at, 1e-6)


async def all_arrivals(port: int, count: int) -> list[Arrival]:
    """Wait until a stub subscriber has received `count` deliveries, and return all it has."""
    await wait_for(partial(count_arrivals, port), count, "deliveries arrived")
    return await fetch_arrivals(port)


def _client(plan: Plan, send_all: Callable[..., Coroutine[Any, Any, Sample]]) -> Sample:
    """Send signed requests with a client that records nothing."""
    secret, numbers = new_secret(), itertools.count()

    def headers() -> dict[str, str]:
        return sign([secret], f"evt_{next(numbers)}", seed.CLOCK.now(), _BODY)

    with child("stub_subscriber") as subscriber:
        url = f"http://127.0.0.1:{subscriber.port}/hook"
        return uvloop.run(send_all(url, headers, plan.seconds))


async def _httpx(url: str, headers: Headers, seconds: float) -> Sample:
    limits = httpx.Limits(max_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:

        async def send() -> None:
            (await client.post(url, content=_BODY, headers=headers())).raise_for_status()

        return await repeat(seconds, IN_FLIGHT, send)


async def _aiohttp(url: str, headers: Headers, seconds: float) -> Sample:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as client:

        async def send() -> None:
            async with client.post(url, data=_BODY, headers=headers()) as answer:
                await answer.read()
                answer.raise_for_status()

        return await repeat(seconds, IN_FLIGHT, send)
