"""Deliveries with every attempt recorded durably, beside bare aiohttp and one shared httpx.AsyncClient."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import sqlalchemy as sa

from orchestrator.cli.bench import history, seeding, truth
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, total
from orchestrator.cli.bench.place import Place, place
from orchestrator.cli.bench.plan import Plan, Spoiled
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import Service, Usage, accounts_of, costs, service
from orchestrator.cli.bench.sink import Arrival, arrivals, arrived, judged
from orchestrator.database.tables import delivery
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign

IN_FLIGHT = 32
#: Deliveries owed for each second of a run: about as many as a core sends.
_PER_S = 2000
#: Seconds without a single arrival after which nothing more will come.
_PATIENCE = 20.0
_LOOK = 0.05
_BODY = b'{"type":"job.succeeded","data":{"id":"job_x","note":"' + b"x" * 800 + b'"}}'
Send = Callable[[str, dict[str, str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ours:
    """One run of the service."""

    rate: float
    used: Usage
    count: int
    honest: Honest


def bench(plan: Plan) -> Result:
    """Measure the service and both limits in turns."""
    ours, theirs, plain = list[Ours](), list[float](), list[float]()
    for number in range(plan.rounds):
        plan.tell(f"deliver: round {number + 1} of {plan.rounds}")
        ours.append(measure(plan))
        theirs.append(_limit(plan, _httpx))
        plain.append(_limit(plan, _aiohttp))
    limits = [Limit("bare aiohttp", plain), Limit("one shared httpx.AsyncClient", theirs)]
    figures = [
        Figure("deliveries_per_s", [one.rate for one in ours], limits),
        *costs("delivery", [(one.used, one.count) for one in ours], {}),
    ]
    more = {"in_flight": IN_FLIGHT}
    return Result(
        "deliver",
        sum(one.count for one in ours),
        figures,
        total([one.honest for one in ours]),
        more,
    )


def measure(plan: Plan) -> Ours:
    """Owe one subscriber many events, let them be due at one instant, and watch them arrive.

    Lost are also those that no recorded attempt proves.
    """
    with place(plan) as here, child("orchestrator.cli.bench.sink") as sink:
        with here.writing() as engine:
            history.lay(engine, plan)
            count = owe(engine, plan, sink.port)
        with service(here, accounts_of(plan.accounts or 1)) as it:
            used = release(here, it, sink.port, count)
        came = run(arrivals(sink.port))
        honest = judged(came, count) + Honest(lost=max(0, truth.unproven(here, len(came))))
        return Ours(rate(came), used, count, honest)


def owe(engine: sa.Engine, plan: Plan, port: int) -> int:
    """Owe a subscriber on a port as many events as a plan has time for; it wants no others. Return how many."""
    (to,) = seeding.subscribe(
        engine, f"http://127.0.0.1:{port}/hook", types=("account.push_degraded",)
    )
    count = max(IN_FLIGHT, int(plan.seconds * _PER_S))
    seeding.owed(engine, count, to)
    return count


def release(here: Place, it: Service, port: int, count: int) -> Usage:
    """Let them be due, wait until all have arrived, and return what that took."""
    before = it.usage()
    seeding.release(here, delivery, delivery.c.id >= f"dlv_{seeding.OWED}")
    run(until(port, count))
    return it.usage() - before


def rate(came: Sequence[Arrival]) -> float:
    """Return arrivals a second, from the first to the last."""
    return (len(came) - 1) / max(came[-1].at - came[0].at, 1e-6)


async def until(port: int, count: int) -> None:
    """Wait until so much has arrived at the sink. Raises `Spoiled` when no more comes."""
    so_far, since = 0, time.monotonic()
    while (now := await arrived(port)) < count:
        if now > so_far:
            so_far, since = now, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            raise Spoiled(f"{now} of {count} deliveries arrived, and no more come")
        await asyncio.sleep(_LOOK)


def _limit(plan: Plan, sending: Callable[[Plan, str], Coroutine[Any, Any, float]]) -> float:
    with child("orchestrator.cli.bench.sink") as sink:
        return run(sending(plan, f"http://127.0.0.1:{sink.port}/hook"))


async def _httpx(plan: Plan, url: str) -> float:
    """Return what a plain sender does: one client, signed, nothing recorded."""
    async with httpx.AsyncClient(
        limits=httpx.Limits(max_connections=IN_FLIGHT), trust_env=False
    ) as client:

        async def send(event: str, headers: dict[str, str]) -> None:
            (await client.post(url, content=_BODY, headers=headers)).raise_for_status()

        return await _rate(plan, send)


async def _aiohttp(plan: Plan, url: str) -> float:
    """Return the same of aiohttp."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def send(event: str, headers: dict[str, str]) -> None:
            async with session.post(url, data=_BODY, headers=headers) as answer:
                await answer.read()
                answer.raise_for_status()

        return await _rate(plan, send)


async def _rate(plan: Plan, send: Send) -> float:
    secret, clock, done = new_secret(), SystemClock(), 0
    started = time.perf_counter()
    until = started + plan.seconds

    async def sender(number: int) -> None:
        nonlocal done
        while time.perf_counter() < until:
            event = f"evt_{number}_{done}"
            await send(event, sign([secret], event, clock.now(), _BODY))
            done += 1

    await asyncio.gather(*(sender(number) for number in range(IN_FLIGHT)))
    return done / (time.perf_counter() - started)
