"""The API from a shell: the curl commands of the documentation work as pasted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.api_caller import KEY
from tests.harness.live import Live, live

BODY = '{"account": "kling", "model": "kling-v3", "input": {"prompt": "a cat surfing"}}'
KEYED = ("-H", f"Authorization: Bearer {KEY}")


@dataclass
class Shell:
    """A folder to run curl in."""

    it: Live
    folder: Path

    async def curl(self, *words: str, code: int = 0) -> str:
        """Return the output of curl. `{url}` in an argument is the service."""
        arguments = [word.replace("{url}", self.it.url) for word in words]
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--noproxy", "*", "--max-time", "30", *KEYED, *arguments,
            cwd=self.folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return out.decode()

    async def json(self, *words: str) -> Any:
        """Return the parsed JSON output of curl."""
        return json.loads(await self.curl(*words))


@contextlib.asynccontextmanager
async def shell(folder: Path) -> AsyncIterator[Shell]:
    """Run a service and return a shell for it."""
    async with live(folder, ("kling", "dreamto")) as it:
        yield Shell(it, folder)


async def test_submit_with_wait_and_idempotency_key(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        # No JSON content type: with `-d`, curl sends that of a form.
        once = ("-H", "Idempotency-Key: order-991", "-d", BODY, "{url}/v1/jobs")
        job = await sh.json("-H", "Prefer: wait=20", *once)
        assert (job["status"], job["resolved_by"]) == ("succeeded", "push")
        again = await sh.curl("-i", *once)
        assert "idempotent-replayed: true" in again
        assert job["id"] in again
        assert (await sh.json("--json", BODY, "{url}/v1/jobs"))["id"] != job["id"]
        assert (await sh.json("-G", "-d", "status=succeeded", "-d", "limit=1", "{url}/v1/jobs"))[
            "data"
        ]
        await sh.curl("--etag-save", "tag", job["links"]["self"])
        shown = await sh.curl(
            "--etag-compare", "tag", "-o", "/dev/null", "-w", "%{http_code}", job["links"]["self"]
        )
        assert shown == "304"


async def test_an_error_response_fails_curl_and_explains_itself(tmp_path: Path) -> None:
    async with shell(tmp_path) as sh:
        arguments = json.loads(
            await sh.curl("--fail-with-body", "-d", "{}", "{url}/v1/jobs", code=22)
        )
        assert arguments["errors"][0]["pointer"] == "/model"
        explained = await sh.curl(arguments["type"])
        assert explained.startswith("validation_failed")


async def test_upload_of_a_file_and_the_event_stream(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    async with shell(tmp_path) as sh:
        form = (
            "-F",
            "file=@cat.png",
            "-F",
            "kind=image",
            "-F",
            "purpose=reference",
            "-F",
            "account=dreamto",
        )
        assert await sh.json(*form, "{url}/v1/files/upload")
        # From the beginning of the log. `-N` prints events unbuffered until the time limit (exit
        # code 28).
        job = await sh.json("-H", "Prefer: wait=20", "-d", BODY, "{url}/v1/jobs")
        first = (await sh.json("{url}/v1/events"))["data"][-1]["id"]
        follow = (
            "-N",
            "--max-time",
            "0.5",
            "-H",
            f"Last-Event-ID: {first}",
            "{url}/v1/events/stream?types=job.*",
        )
        arguments = await sh.curl(*follow, code=28)
        assert "event: job.succeeded" in arguments
        assert job["id"] in arguments
