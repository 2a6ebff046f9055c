"""Push -> delivered at low load: what a subscriber waits for after its vendor has told us."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
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


def run(count: int, per_second: float) -> dict[str, Any]:
    """Send `count` pushes, evenly, and return how long each took until its delivery arrived, in milliseconds."""
    with tempfile.TemporaryDirectory() as name, sink() as port:
        folder = Path(name)
        requests = [post(*one) for one in pushes(folder, asyncio.run(jobs(settings(folder), count)))]
        asyncio.run(_subscribe(folder, port))
        with process(service, folder, {}) as door:
            waits = asyncio.run(_measure(door, port, requests, 1 / per_second))
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


async def _measure(door: int, port: int, requests: list[bytes], pause: float) -> list[float]:
    """Push one at a time; the sink's arrivals come in the same order, since one ends before the next begins."""
    sent: list[float] = []
    for request in requests:
        sent.append(CLOCK.now().timestamp())
        figures = await drive(door, [request], 1)
        if figures.statuses != {200: 1}:
            raise RuntimeError(f"a push was answered {figures.statuses}")
        await CLOCK.sleep(pause)
    until = time.monotonic() + 30
    while len(arrived := await arrivals(port)) < len(sent) and time.monotonic() < until:
        await CLOCK.sleep(0.1)
    return [at - began for (at, _), began in zip(sorted(arrived), sent, strict=True)]
