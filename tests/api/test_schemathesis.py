"""A stranger's tool reads the OpenAPI document and sends whatever it can think of, good and bad, to a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.harness.api_caller import KEY, Json
from tests.harness.live import Live, live, order

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method",
    "allow_header_conformance", "ignored_auth",
)  # fmt: skip
#: Each request has this many seconds, and so has the whole of it that many.
PATIENCE, LONGEST = 15, 90


async def existing(it: Live) -> Json:
    """Let there be one of everything, and return its ids by the section of the path they belong to."""
    job = await it.api.submit(order("kling"))
    await it.api.ended(job["id"])
    await it.hears(job["id"])
    (delivery, *_) = (await it.api.get("/v1/deliveries"))["data"]
    replay = (await it.api.call("POST", "/v1/replays", {})).json()
    said = {
        "events": delivery["event"],
        "deliveries": delivery["id"],
        "subscribers": delivery["subscriber"],
    }
    return {"jobs": job["id"], "replays": replay["id"], **said}


async def test_nothing_that_schemathesis_sends_is_answered_with_what_is_not_documented(
    tmp_path: Path,
) -> None:
    """The same requests every time. The stream is left out: it does not end."""
    async with live(tmp_path, ["kling", "dreamto"]) as it:
        ids = await existing(it)
        asked = [
            "--max-examples",
            "3",
            "--generation-deterministic",
            "--phases",
            "examples,coverage,fuzzing",
        ]
        how = [
            "--checks",
            ",".join(CHECKS),
            "--request-timeout",
            str(PATIENCE),
            "--continue-on-failure",
            "--no-color",
        ]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "tests" / "schemathesis.toml"),
            "run", f"{it.url}/openapi.json", "--header", f"Authorization: Bearer {KEY}",
            "--exclude-path", "/v1/events/stream", *asked, *how,
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.harness.schemathesis_hooks", "PYTHONPATH": str(ROOT),
                              "ORCHESTRATOR_EXISTING": json.dumps(ids)},
        )  # fmt: skip
        try:
            async with asyncio.timeout(LONGEST):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode().rpartition("= FAILURES =")[2]
    assert b"Selected: " in said
