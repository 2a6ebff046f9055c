"""Push -> delivered at low load: what a subscriber waits for after its vendor has told us."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.app import build
from orchestrator.bench.ingest import pushes
from orchestrator.bench.load import drive, post, quantile
from orchestrator.bench.seeding import jobs, subscribe
from orchestrator.bench.servers import process, service, settings
from orchestrator.bench.sink import arrivals, sink
from orchestrator.clock import SystemClock

CLOCK = SystemClock()
#: Seconds the last deliveries have to arrive.
_PATIENCE = 10.0


def run(count: int, per_second: float) -> dict[str, Any]:
    """Send `count` pushes, evenly, and return how long each took until its delivery arrived, in milliseconds."""
    with tempfile.TemporaryDirectory() as name, sink() as port:
        folder = Path(name)
        requests = [post(*one) for one in pushes(folder, asyncio.run(jobs(settings(folder), count)))]
        asyncio.run(_subscribe(folder, port))
        with process(service, folder, {}) as door:
            waits = asyncio.run(delays(door, port, requests, 1 / per_second))
    return {
        "deliveries": len(waits),
        "p50_ms": quantile(waits, 0.5),
        "p99_ms": quantile(waits, 0.99),
        "mean_ms": 1000 * statistics.fmean(waits),
    }


async def _subscribe(folder: Path, port: int) -> None:
    rt = build(settings(folder))
    rt.store.start()
    try:
        await rt.store.write(subscribe, rt, f"http://127.0.0.1:{port}/hook")
    finally:
        rt.store.close()


async def delays(door: int, port: int, requests: Sequence[bytes], pause: float) -> list[float]:
    """Push at an even pace, and return the seconds until each delivery arrived at the sink on `port`.

    Arrivals are matched by order, which the pace keeps.
    """
    sent, started = list[float](), CLOCK.monotonic()
    for number, request in enumerate(requests):
        await CLOCK.sleep(started + number * pause - CLOCK.monotonic())
        sent.append(CLOCK.now().timestamp())
        figures = await drive(door, [request], 1)
        if figures.statuses != {200: 1}:
            raise RuntimeError(f"a push was answered {figures.statuses}")
    until = CLOCK.monotonic() + _PATIENCE
    while len(arrived := await arrivals(port)) < len(sent):
        if CLOCK.monotonic() > until:
            raise TimeoutError(f"{len(arrived)} of {len(sent)} deliveries arrived")
        await CLOCK.sleep(0.1)
    return [at - began for (at, _), began in zip(sorted(arrived), sent, strict=True)]
