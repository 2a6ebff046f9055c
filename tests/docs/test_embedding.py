"""The applications on the embedding page run, submit a job, and complete it by a push."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from orchestrator.client import AsyncClient
from orchestrator.simulator import SimulatedVendors
from orchestrator.simulator.__main__ import configuration
from orchestrator.simulator.server import InLoopServer
from tests.harness.api_caller import until
from tests.harness.documents import Block, chosen
from tests.harness.live import listening


@pytest.mark.parametrize("block", chosen("python", "as an application"), ids=str)
async def test_an_embedded_service_completes_a_job_by_a_push(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sock = listening()
    port = sock.getsockname()[1]
    async with SimulatedVendors(render_seconds=0.1) as world:
        (tmp_path / "orchestrator.toml").write_text(configuration(world.base_url))
        names: dict[str, Any] = {"__name__": "app"}
        exec(
            compile(block.code.replace("8000", str(port)), str(block), "exec", dont_inherit=True),
            names,
        )
        server = InLoopServer(
            uvicorn.Config(names["app"], log_config=None, access_log=False, ws="none")
        )
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await until(lambda: server.started or serving.done(), "the application starts")
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=20, verify=False
        ) as http:
            made = await http.post("/render", json={"prompt": "a cat surfing"})
            assert made.status_code == 202, made.text
            inside: AsyncClient = names["video"].client
            job = await inside.result(made.json()["id"], timeout=20)
            assert job.resolved_by == "push"
            assert (await http.get("/video/readyz")).status_code == 200
            assert (await http.get(f"/video/v1/jobs/{job.id}")).status_code == 401
        server.should_exit = True
        await serving
