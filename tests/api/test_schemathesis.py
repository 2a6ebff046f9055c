"""Schemathesis reads the OpenAPI document and sends valid and invalid requests over a socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from orchestrator.simulator.faults import Faults
from tests.harness.api_caller import KEY, Json
from tests.harness.live import Live, live, order

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance", "response_headers_conformance", "negative_data_rejection",
    "missing_required_header", "unsupported_method", "allow_header_conformance", "ignored_auth",
)  # fmt: skip
#: Seconds for each request, and for all of them.
REQUEST_TIMEOUT, TIMEOUT = 15, 270


async def existing(it: Live) -> Json:
    """Create one of each resource, and return their ids by the section of the path."""
    job = await it.api.submit(order("cubicspaces"))
    await it.api.ended(job["id"])
    await it.delivered(job["id"])
    (delivery, *_) = (await it.api.get("/v1/deliveries"))["data"]
    replay = (await it.api.call("POST", "/v1/replays", {})).json()
    output = {
        "events": delivery["event"],
        "deliveries": delivery["id"],
        "subscribers": delivery["subscriber"],
    }
    return {"jobs": job["id"], "replays": replay["id"], **output}


@pytest.mark.timeout(300)
async def test_schemathesis_finds_no_undocumented_response(tmp_path: Path) -> None:
    """The requests are the same every time. The stream is excluded: it does not end."""
    # The vendor serves the clip itself: other files are outside.
    served = Faults(keyed_content=1.0)
    async with live(tmp_path, ["cubicspaces", "dreamto"], faults=served) as it:
        ids = await existing(it)
        selection = [
            "--max-examples",
            "3",
            "--generation-deterministic",
            "--phases",
            "examples,coverage,fuzzing",
        ]
        checks = [
            "--checks",
            ",".join(CHECKS),
            "--request-timeout",
            str(REQUEST_TIMEOUT),
            "--continue-on-failure",
            "--no-color",
        ]
        environment = {
            "SCHEMATHESIS_HOOKS": "tests.harness.schemathesis_hooks",
            "PYTHONPATH": str(ROOT),
            "ORCHESTRATOR_EXISTING": json.dumps(ids),
        }
        config = str(ROOT / "tests" / "schemathesis.toml")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", config,
            "run", f"{it.url}/openapi.json", "--header", f"Authorization: Bearer {KEY}",
            "--exclude-path", "/v1/events/stream", *selection, *checks,
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=os.environ | environment,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, output.decode().rpartition("= FAILURES =")[2]
    assert b"Selected: " in output
