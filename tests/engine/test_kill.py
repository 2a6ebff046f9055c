"""The service as a process that is told to stop. `test_chaos.py` kills it."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests.harness.api_caller import KEY, Json, eventually
from tests.harness.audit import Books
from tests.harness.live import order
from tests.harness.processes import Simulator, service, simulator

pytestmark = pytest.mark.long

HEADERS = {"authorization": f"Bearer {KEY}"}


async def attempts(sim: Simulator) -> list[Json]:
    """Return what reached the subscriber."""
    found: list[Json] = (await sim.report())["subscriber"]["deliveries"]
    return found


async def test_told_to_stop_it_ends_what_is_under_way_and_gives_back_the_rest(
    tmp_path: Path,
) -> None:
    async with (
        simulator(tmp_path, {}) as sim,
        service(tmp_path, sim, {"kling": {"max_in_flight": 10}}, "orchestrator") as it,
        httpx.AsyncClient(base_url=it.url, headers=HEADERS, timeout=10) as http,
    ):
        await it.ready(http)
        await sim.tell("/misbehave", how="hang", times=2, seconds=1)
        body = {"url": sim.urls["hook"], "types": ["job.succeeded"], "max_in_flight": 2}
        made = (await http.post("/v1/subscribers", json=body)).raise_for_status().json()
        await sim.tell("/secret", secret=made["secret"])
        for _ in range(6):
            assert (
                await http.post("/v1/jobs", json=order("kling"))
            ).status_code == httpx.codes.ACCEPTED

        async def under_way() -> bool:
            done = (await http.get("/v1/jobs?status=succeeded")).json()["data"]
            return len(done) == 6 and len(await attempts(sim)) == 2

        await eventually(under_way, "two deliveries hang, four wait")
        assert await it.stop() in (0, -signal.SIGTERM)
        books = Books(it.database)
        assert books.count("SELECT state FROM delivery") == {"delivered": 2, "pending": 4}
        # Nothing that waits is claimed by the process that is gone.
        late = books.rows("SELECT id FROM delivery WHERE due_at > unixepoch('subsec') * 1000")
        assert late == []
        await it.start()
        await it.ready(http)

        async def everything() -> bool:
            return len(await attempts(sim)) == 6

        await eventually(everything, "the rest is delivered by the next process")
        assert sorted((await sim.report())["subscriber"]["completions"].values()) == [1] * 6
        assert all(one["verified"] for one in await attempts(sim))
