"""Deliveries a second with every attempt recorded durably, beside one shared httpx.AsyncClient at 32 in flight."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from orchestrator.app import build
from orchestrator.bench.seeding import jobs, subscribe
from orchestrator.bench.servers import process, service, settings
from orchestrator.bench.sink import arrivals, sink
from orchestrator.clock import SystemClock
from orchestrator.decide import Heard
from orchestrator.report import Output, Report
from orchestrator.runtime import Runtime
from orchestrator.settings import Settings
from orchestrator.signing import new_secret, sign
from orchestrator.states import JobState, Source
from orchestrator.store import Tx

CLOCK = SystemClock()
IN_FLIGHT = 32
_PATIENCE = 60.0
_BODY = b'{"type":"job.succeeded","data":{"id":"job_x","note":"' + b"x" * 800 + b'"}}'


def run(deliveries: int, rounds: int) -> dict[str, Any]:
    """Measure both in turn, `rounds` times, and return medians and their ratio."""
    ours, theirs = list[float](), list[float]()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name, sink() as port:
            asyncio.run(_owe(settings(Path(name)), deliveries, port))
            with process(service, Path(name), {}):
                ours.append(asyncio.run(_rate(port, deliveries)))
        with sink() as port:
            theirs.append(asyncio.run(_shared_client(port, min(deliveries, 2000))))
    return {
        "ours_per_s": statistics.median(ours),
        "httpx_client_per_s": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "ratio_spread": sorted(round(a / b, 2) for a, b in zip(ours, theirs, strict=True)),
    }


async def _owe(given: Settings, count: int, port: int) -> None:
    """Fill a database with deliveries that are due, all to one subscriber."""
    ids = await jobs(given, count)
    rt = build(given)
    rt.store.start()
    try:
        await rt.store.write(subscribe, rt, f"http://127.0.0.1:{port}/hook")
        for start in range(0, count, 500):
            await rt.store.write(_succeed, rt, ids[start : start + 500])
    finally:
        rt.store.close()


def _succeed(tx: Tx, rt: Runtime, ids: list[str]) -> None:
    done = Report(JobState.SUCCEEDED, "succeed", videos=(Output("https://cdn.example.com/v.mp4", duration=5.0),))
    rt.ledger.apply(tx, [Heard(job_id, done, Source.PUSH) for job_id in ids])


async def _rate(port: int, count: int) -> float:
    """Return deliveries a second, from the first arrival to the last."""
    until = time.monotonic() + _PATIENCE
    while len(arrived := await arrivals(port)) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(arrived)} of {count} deliveries arrived")
        await CLOCK.sleep(0.2)
    times = sorted(at for at, _ in arrived)
    return len(times) / (times[-1] - times[0])


async def _shared_client(port: int, count: int) -> float:
    """Return what a plain sender does: one httpx client, 32 in flight, signed, nothing recorded."""
    secret, turn = new_secret(), iter(range(count))

    async def send(client: httpx.AsyncClient) -> None:
        for number in turn:
            headers = sign([secret], f"evt_{number}", CLOCK.now(), _BODY)
            answer = await client.post(f"http://127.0.0.1:{port}/hook", content=_BODY, headers=headers)
            answer.raise_for_status()

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=IN_FLIGHT)) as client:
        started = time.perf_counter()
        await asyncio.gather(*(send(client) for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - started)
