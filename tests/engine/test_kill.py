"""A service process that gets SIGTERM. `tests/chaos` and `test_replay_kill.py` kill it."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests.harness.api_caller import KEY, Json, eventually
from tests.harness.audit import ServiceDatabase
from tests.harness.live import order
from tests.harness.processes import Simulator, service, simulator

pytestmark = pytest.mark.long

HEADERS = {"authorization": f"Bearer {KEY}"}


async def attempts(sim: Simulator) -> list[Json]:
    """Return the attempts that reached the subscriber."""
    found: list[Json] = (await sim.report())["subscriber"]["deliveries"]
    return found


async def test_at_sigterm_attempts_in_progress_end_and_waiting_deliveries_stay_due(
    tmp_path: Path,
) -> None:
    async with (
        simulator(tmp_path, {}) as sim,
        service(tmp_path, sim, {"kling": {"max_in_flight": 10}}, "orchestrator") as it,
        httpx.AsyncClient(base_url=it.url, headers=HEADERS, timeout=10) as http,
    ):
        await it.ready(http)
        body = {"url": sim.urls["hook"], "types": ["job.succeeded"], "max_in_flight": 2}
        made = (await http.post("/v1/subscribers", json=body)).raise_for_status().json()
        await sim.control("/secret", secret=made["secret"])
        # Deliveries are held until all jobs have ended. So between the first attempt and SIGTERM
        # lies nothing that takes time, and a hang of seconds outlasts it on a busy machine.
        (await http.post(f"/v1/subscribers/{made['id']}/pause")).raise_for_status()
        for _ in range(6):
            answer = await http.post("/v1/jobs", json=order("kling"))
            assert answer.status_code == httpx.codes.ACCEPTED

        async def all_succeeded() -> bool:
            return len((await http.get("/v1/jobs?status=succeeded")).json()["data"]) == 6

        await eventually(all_succeeded, "all jobs succeed")
        await sim.control("/misbehave", how="hang", times=2, seconds=3)
        (await http.post(f"/v1/subscribers/{made['id']}/resume")).raise_for_status()

        async def two_hang() -> bool:
            return len(await attempts(sim)) == 2

        await eventually(two_hang, "two deliveries hang, four wait")
        assert await it.stop() in (0, -signal.SIGTERM)
        database = ServiceDatabase(it.database)
        assert database.count("SELECT state FROM delivery") == {"delivered": 2, "pending": 4}
        # No waiting delivery is claimed by the process that ended.
        late = database.rows("SELECT id FROM delivery WHERE due_at > unixepoch('subsec') * 1000")
        assert late == []
        await it.start()
        await it.ready(http)

        async def all_delivered() -> bool:
            return len(await attempts(sim)) == 6

        await eventually(all_delivered, "the next process delivers the rest")
        assert sorted((await sim.report())["subscriber"]["completions"].values()) == [1] * 6
        assert all(attempt["verified"] for attempt in await attempts(sim))
