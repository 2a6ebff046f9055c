"""Durable acknowledgements of terminal pushes, beside a bare handler that only parses the same body."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator.bench.load import Figures, drive, post
from orchestrator.bench.seeding import jobs, paused_subscriber
from orchestrator.bench.servers import SERVERS, bare, process, service, settings
from orchestrator.clock import SystemClock
from orchestrator.signing import Callback, Keys
from orchestrator.values import encode

SECONDS_OF_TOKENS = timedelta(days=1)


def run(count: int, connections: int, rounds: int) -> dict[str, Any]:
    """Measure ours and the bare handler on each of `SERVERS`, all in turns, and return their figures by server."""
    pairs = [{server: _pair(server, count, connections) for server in SERVERS} for _ in range(rounds)]
    return {server: _figures([pair[server] for pair in pairs]) for server in SERVERS}


def _pair(server: str, count: int, connections: int) -> tuple[Figures, Figures]:
    """Send one push for each of `count` jobs to us, and the same to the bare handler."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = asyncio.run(jobs(settings(folder), count))
        asyncio.run(paused_subscriber(settings(folder)))
        requests = [post(*one) for one in pushes(folder, ids)]
        with process(service, folder, {}, server=server) as port:
            ours = asyncio.run(drive(port, requests, connections))
    with process(bare, server=server) as port:
        return ours, asyncio.run(drive(port, requests, connections))


def _figures(pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, Any]:
    """Return medians of the rounds, and of the ratio within each."""
    ours, limit = zip(*pairs, strict=True)
    return {
        "ours_per_s": statistics.median(one.rate for one in ours),
        "bare_per_s": statistics.median(one.rate for one in limit),
        "ratio": statistics.median(a.rate / b.rate for a, b in pairs),
        "ratio_spread": sorted(round(a.rate / b.rate, 3) for a, b in pairs),
        "p50_ms": statistics.median(one.quantile(0.5) for one in ours),
        "p99_ms": statistics.median(one.quantile(0.99) for one in ours),
        "not_acknowledged": sum(count for one in ours for status, count in one.statuses.items() if status != 200),
    }


def pushes(folder: Path, ids: list[str]) -> list[tuple[str, bytes]]:
    """Return path and body of one terminal push for each job, in Kling's legacy form."""
    keys = Keys([key.get_secret_value() for key in settings(folder).secret_keys])
    expires = SystemClock().now() + SECONDS_OF_TOKENS
    made = []
    for number, job_id in enumerate(ids):
        task = str(10**17 + number)
        body = {
            "task_id": task, "task_status": "succeed", "task_status_msg": "", "created_at": 1774805076166,
            "updated_at": 1774805136166, "final_unit_deduction": "1", "task_info": {"external_task_id": job_id},
            "task_result": {"videos": [{"id": task, "url": f"https://cdn.example.com/{task}.mp4", "duration": "5.1"}]},
        }  # fmt: skip
        made.append((f"/callbacks/bench/{keys.mint('bench', Callback(job_id, 1), expires)}", encode(body)))
    random.Random(1).shuffle(made)
    return made
