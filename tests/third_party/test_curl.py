"""The API from a shell: what people paste from the documentation works as it stands there."""

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
    """A folder with curl in it."""

    it: Live
    folder: Path

    async def curl(self, *words: str, code: int = 0) -> str:
        """Return what curl printed; `{url}` in its words is the service."""
        said = [word.replace("{url}", self.it.url) for word in words]
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--noproxy", "*", "--max-time", "30", *KEYED, *said, cwd=self.folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == code, err.decode()
        return out.decode()

    async def json(self, *words: str) -> Any:
        """Return the JSON that curl printed."""
        return json.loads(await self.curl(*words))


@contextlib.asynccontextmanager
async def shell(folder: Path) -> AsyncIterator[Shell]:
    """A running service, and curl."""
    async with live(folder, ("kling", "dreamto")) as it:
        yield Shell(it, folder)


async def test_a_job_is_submitted_waited_for_and_not_made_twice(tmp_path: Path) -> None:
    async with shell(tmp_path) as here:
        # Without a content-type of JSON: `-d` says that it is a form.
        once = ("-H", "Idempotency-Key: order-991", "-d", BODY, "{url}/v1/jobs")
        job = await here.json("-H", "Prefer: wait=20", *once)
        assert (job["status"], job["resolved_by"]) == ("succeeded", "push")
        again = await here.curl("-i", *once)
        assert "idempotent-replayed: true" in again
        assert job["id"] in again
        assert (await here.json("--json", BODY, "{url}/v1/jobs"))["id"] != job["id"]
        assert (await here.json("-G", "-d", "status=succeeded", "-d", "limit=1", "{url}/v1/jobs"))[
            "data"
        ]
        await here.curl("--etag-save", "tag", job["links"]["self"])
        shown = await here.curl(
            "--etag-compare", "tag", "-o", "/dev/null", "-w", "%{http_code}", job["links"]["self"]
        )
        assert shown == "304"


async def test_a_refusal_fails_the_script_and_says_why(tmp_path: Path) -> None:
    async with shell(tmp_path) as here:
        said = json.loads(await here.curl("--fail-with-body", "-d", "{}", "{url}/v1/jobs", code=22))
        assert said["errors"][0]["pointer"] == "/model"
        explained = await here.curl(said["type"])
        assert explained.startswith("validation_failed")


async def test_a_file_is_uploaded_and_the_log_followed(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    async with shell(tmp_path) as here:
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
        assert await here.json(*form, "{url}/v1/files/upload")
        # From the beginning of the log: `-N` prints what comes as it comes, until the time is up (28).
        job = await here.json("-H", "Prefer: wait=20", "-d", BODY, "{url}/v1/jobs")
        first = (await here.json("{url}/v1/events"))["data"][-1]["id"]
        follow = (
            "-N",
            "--max-time",
            "0.5",
            "-H",
            f"Last-Event-ID: {first}",
            "{url}/v1/events/stream?types=job.*",
        )
        said = await here.curl(*follow, code=28)
        assert "event: job.succeeded" in said
        assert job["id"] in said
