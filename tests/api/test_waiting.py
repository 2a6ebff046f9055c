"""Long polls on a job: for its result, or for its next change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.foundation.states import HoldReason, JobState
from orchestrator.jobs import holds
from orchestrator.jobs.holds import Refusal
from tests.api.test_support import BODY, calling, eventually, submitted

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_a_submission_can_wait_for_the_result(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        waiting = asyncio.create_task(
            api.call("POST", "/v1/jobs", 200, BODY, headers={"prefer": "wait=30"})
        )
        rows = await eventually(lambda: api.rows("job"))
        await api.finish(rows[0]["id"])
        response = await waiting
        assert response.headers["preference-applied"] == "wait=30"
        assert "retry-after" not in response.headers
        job = response.json()
        assert (job["status"], job["resolved_by"]) == ("succeeded", "push")
        assert job["output"]["videos"][0]["duration"] == 5.0


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=0", "wait=0"),
        ("respond-async, wait=0", "wait=0"),
        ('Wait="0"; x', "wait=0"),
        ("wait=x", None),
        ("", None),
    ],
)
async def test_preferences_are_applied_or_ignored(
    tmp_path: Path, prefer: str, applied: str | None
) -> None:
    async with calling(tmp_path) as api:
        response = await api.call("POST", "/v1/jobs", 202, BODY, headers={"prefer": prefer})
        assert response.headers.get("preference-applied") == applied


async def test_a_wait_ends_before_a_proxy_gives_up_after_a_minute(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await api.open()
        await api.finish(job["id"])
        response = await api.call(
            "GET", f"/v1/jobs/{job['id']}", 200, headers={"prefer": "wait=999"}
        )
        assert response.headers["preference-applied"] == "wait=55"


async def test_a_current_copy_gets_304(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        path = f"/v1/jobs/{job['id']}"
        for tag in ('"v1"', 'W/"v1"', '"v0", "v1"', "*"):
            unchanged = await api.call("GET", path, 304, headers={"if-none-match": tag})
            assert (unchanged.content, unchanged.headers["etag"]) == (b"", '"v1"')
        assert (await api.call("GET", path, 200, headers={"if-none-match": '"v0"'})).headers[
            "retry-after"
        ]


async def test_the_tag_of_a_queued_job_changes_with_the_hold_that_it_shows(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job, running = await api.open(), await api.open(state=JobState.PROCESSING)
        path = f"/v1/jobs/{job['id']}"
        refusal = Refusal(HoldReason.EXHAUSTED, "the vendor answered 402", probe=False)
        ids, rng, write = api.runtime.ids, api.runtime.rng, api.runtime.store.write
        free = (await api.call("GET", path, 200)).headers["etag"]
        waits = {"if-none-match": free, "prefer": "wait=30"}
        polling = asyncio.create_task(api.call("GET", path, 200, headers=waits))
        await asyncio.sleep(0)
        await write(holds.refused, ids, rng, "main", refusal, api.clock.now())
        held = await polling
        assert held.json()["held"]["reason"] == "exhausted"
        # The time of the next check is shown, too.
        await write(holds.begin_probe, "main", api.clock.now())
        old = {"if-none-match": f"{free}, {held.headers['etag']}"}
        probed = await api.call("GET", path, 200, headers=old)
        await api.call("GET", path, 304, headers={"if-none-match": probed.headers["etag"]})
        # A job at its vendor shows no hold.
        shown = await api.call("GET", f"/v1/jobs/{running['id']}", 200)
        assert "-" not in shown.headers["etag"]


async def test_a_long_poll_ends_with_a_change_or_its_timeout(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        path, headers = f"/v1/jobs/{job['id']}", {"if-none-match": '"v1"'}
        late = await api.call("GET", path, 304, headers=headers | {"prefer": "wait=1"})
        assert late.headers["preference-applied"] == "wait=1"
        polling = asyncio.create_task(
            api.call("GET", path, 200, headers=headers | {"prefer": "wait=30"})
        )
        await asyncio.sleep(0)
        await api.finish(job["id"], JobState.PROCESSING)
        assert (await polling).json()["status"] == "processing"
