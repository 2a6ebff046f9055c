"""The examples of the documentation run under uvicorn: their application with the service in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchestrator.simulator import SimulatedVendors
from tests.harness.api_caller import KEY, eventually
from tests.harness.command_line import run
from tests.harness.fork_server import ROOT, fork
from tests.harness.processes import Child, end, free_port, simulated

pytestmark = pytest.mark.long

EXAMPLES = ROOT / "docs" / "examples"
KEYED = {"authorization": f"Bearer {KEY}"}


@dataclass
class Host:
    """A running example."""

    url: str
    http: httpx.AsyncClient
    process: Child
    log: Path
    world: SimulatedVendors

    async def ends(self, how: signal.Signals) -> int:
        """End the host while a client follows a stream and return the exit code.

        Fails if it waits for the stream.
        """
        async with (
            self.http.stream("GET", "/video/v1/events/stream", headers=KEYED) as stream,
            asyncio.timeout(10),
        ):
            code, _ = await asyncio.gather(end(self.process, how), stream.aread())
        return code


@contextlib.asynccontextmanager
async def host(folder: Path, example: str) -> AsyncIterator[Host]:
    """Run an example with one simulated account until the end of the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        SimulatedVendors(render_seconds=0.1) as world,
        httpx.AsyncClient(base_url=url, timeout=20, trust_env=False, verify=False) as http,
    ):
        environment = {
            "MY_APP_URL": url,
            "ORCHESTRATOR_PUBLIC_URL": f"{url}/video",
            "ORCHESTRATOR_DATABASE_URL": f"sqlite:///{folder / 'video.db'}",
            "ORCHESTRATOR_API_KEYS": json.dumps([KEY]),
            "ORCHESTRATOR_ALLOW_PRIVATE": '["127.0.0.0/8"]',
            "ORCHESTRATOR_ACCOUNTS": json.dumps(simulated(world.base_url, {"kling": {}})),
        }
        place = ("--app-dir", str(EXAMPLES), "--port", str(port))
        process = await fork(
            "uvicorn",
            f"{example}:app",
            *place,
            log=(log := folder / f"{port}.log"),
            environment=environment,
        )
        try:
            yield Host(url, http, process, log, world)
        finally:
            if process.returncode is None:
                await end(process, signal.SIGKILL)


async def ready(host: Host) -> None:
    """Wait until an example is ready."""

    async def answers() -> bool:
        assert host.process.returncode is None, host.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return (await host.http.get("/video/readyz")).status_code == 200
        return False

    await eventually(answers, "the host is ready", 60)


async def test_the_starlette_example_completes_an_order_by_a_push_below_its_prefix(
    tmp_path: Path,
) -> None:
    async with host(tmp_path, "embedded_starlette") as it:
        await ready(it)
        ordered = await it.http.post("/orders/991", json={"prompt": "a cat surfing"})
        assert ordered.status_code == 202, ordered.text

        async def received() -> bool:
            return bool((await it.http.get("/orders/991")).json()["status"] == "succeeded")

        await eventually(received, "the host receives the completion")
        listed = await it.http.get("/video/v1/jobs?external_task_id=991", headers=KEYED)
        assert [job["resolved_by"] for job in listed.json()["data"]] == ["push"]
        # uvicorn shuts down on this signal and then raises it again.
        assert await it.ends(signal.SIGTERM) == -signal.SIGTERM
        output = it.log.read_text()
        assert "Application shutdown complete" in output
        assert "Traceback" not in output
        assert "POST /video/callbacks/kling/*** " in output, "the access log masks the token"


async def test_the_fastapi_example_waits_for_a_film_and_shuts_down_with_an_open_stream(
    tmp_path: Path,
) -> None:
    async with host(tmp_path, "embedded_fastapi") as it:
        await ready(it)
        film = (await it.http.post("/films", json={"prompt": "a cat surfing"})).json()
        assert film["status"] == "succeeded", film
        assert film["urls"]
        assert (await it.http.get(f"/films/{film['job']}")).json() == film
        assert (await it.http.get("/docs")).status_code == 200, "FastAPI's own"
        listed = await asyncio.to_thread(
            run, "jobs", "ls", "--json", "--server", f"{it.url}/video", "--api-key", KEY
        )
        assert [job["id"] for job in json.loads(listed.out)["data"]] == [film["job"]], (
            "the command line finds it there"
        )
        assert await it.ends(signal.SIGINT) == 0
        assert "Traceback" not in it.log.read_text()


async def test_a_second_process_on_one_sqlite_file_logs_why_it_cannot_start(tmp_path: Path) -> None:
    """So a worker fails that uvicorn starts as its second."""
    async with host(tmp_path, "embedded_starlette") as first:
        await ready(first)
        async with host(tmp_path, "embedded_starlette") as second:
            assert await second.process.wait() != 0
            output = second.log.read_text()
        await ready(first)
    assert "SQLite serves one process" in output
    assert f"{tmp_path / 'video.db'} is in use by another orchestrator process" in output
