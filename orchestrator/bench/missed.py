"""When every push is lost: everything still completes, later. How much later, beside the same jobs with pushes."""

from __future__ import annotations

import asyncio
import socket
import statistics
import tempfile
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from orchestrator.app import application, build
from orchestrator.bench.load import quantile
from orchestrator.bench.servers import settings
from orchestrator.clock import SystemClock, epoch_ms
from orchestrator.running import running
from orchestrator.runtime import Runtime
from orchestrator.settings import Settings
from orchestrator.simulator import Faults, World
from orchestrator.simulator.accounts import account_settings
from orchestrator.simulator.orders import ORDERS
from orchestrator.simulator.serving import Serving
from orchestrator.store import Tx
from orchestrator.tables import job

ACCOUNTS = ("kling", "cloudsway", "agentsflare", "dreamto")
#: In proportion to renders of two seconds what the defaults are to renders of two minutes.
POLL = {"first_after": 1.0, "interval": 0.5, "max_interval": 2.0}
RENDER_SECONDS = 2.0
CLOCK = SystemClock()
_CALLERS = 16
_PATIENCE = 40.0


def run(count: int) -> dict[str, Any]:
    """Run `count` jobs with pushes and without, and return what the vendor's silence costs, in seconds.

    A delay is from the end of a render to the moment its job is final with us.
    """
    pushed, by = asyncio.run(_round(count, Faults()))
    missed, alone = asyncio.run(_round(count, Faults(drop_push=1.0)))
    return {
        "jobs": count,
        "completed": {"with_pushes": len(pushed), "without": len(missed)},
        "resolved_by": {"with_pushes": by, "without": alone},
        "delay_with_pushes_s": _figures(pushed),
        "delay_without_s": _figures(missed),
        "median_added_s": round(statistics.median(missed) - statistics.median(pushed), 3),
        "poll": POLL,
    }


def _figures(delays: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(delays), 3),
        "p99": round(quantile(delays, 0.99) / 1000, 3),
        "worst": round(max(delays), 3),
    }


async def _round(count: int, faults: Faults) -> tuple[list[float], dict[str, int]]:
    """Return the delay of each job that succeeded, and who said so how often."""
    with tempfile.TemporaryDirectory() as name:
        async with World(render_seconds=RENDER_SECONDS, faults=faults) as world:
            given = _settings(Path(name), world)
            rt = build(given)
            serving = Serving(application(rt), int(given.public_url.rpartition(":")[2]))
            async with running(rt):
                await serving.start()
                try:
                    await _submit(given, count)
                    rows = await _ended(rt, count)
                finally:
                    await serving.stop()
            return _delays(rows, world), _tally(rows)


def _settings(folder: Path, world: World) -> Settings:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = {"max_in_flight": 1000, "poll": POLL}
    accounts = {name: account_settings(world.base_url, name) | more for name in ACCOUNTS}
    return settings(folder, accounts=accounts, public_url=f"http://127.0.0.1:{port}")


async def _submit(given: Settings, count: int) -> None:
    bodies = [next(body for name, _, body in ORDERS if name == ACCOUNTS[n % len(ACCOUNTS)]) for n in range(count)]
    waiting = iter(bodies)
    headers = {"authorization": f"Bearer {given.api_keys[0].get_secret_value()}"}
    async with httpx.AsyncClient(base_url=given.public_url, headers=headers, timeout=30) as client:

        async def caller() -> None:
            for body in waiting:
                (await client.post("/v1/jobs", json=body)).raise_for_status()

        await asyncio.gather(*(caller() for _ in range(_CALLERS)))


async def _ended(rt: Runtime, count: int) -> list[sa.RowMapping]:
    """Return the jobs that succeeded once all of them have. Raises `TimeoutError`."""
    until = CLOCK.monotonic() + _PATIENCE
    while len(rows := await rt.store.read(_succeeded)) < count:
        if CLOCK.monotonic() > until:
            raise TimeoutError(f"{len(rows)} of {count} jobs succeeded")
        await CLOCK.sleep(0.2)
    return rows


def _succeeded(tx: Tx) -> list[sa.RowMapping]:
    return list(tx.execute(sa.select(job).where(job.c.state == "succeeded")).mappings())


def _delays(rows: list[sa.RowMapping], world: World) -> list[float]:
    over = {render.external_task_id: render.states[-1][1] for render in world.renders}
    return [epoch_ms(row["finished_at"]) / 1000 - over[row["external_task_id"]] for row in rows]


def _tally(rows: list[sa.RowMapping]) -> dict[str, int]:
    told = [str(row["resolved_by"]) for row in rows]
    return {source: told.count(source) for source in sorted(set(told))}
