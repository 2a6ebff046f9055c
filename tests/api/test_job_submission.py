"""Submissions over HTTP: jobs as they are stored and returned."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.api.job_submission import JobSubmission
from orchestrator.database.tables import subscriber
from orchestrator.foundation.ids import is_id
from tests.api.test_support import BODY, calling, submitted
from tests.harness.runtime import Harness

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_a_job_is_stored_before_it_is_acknowledged(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        body = BODY | {
            "account": "main", "capability": "text2video", "external_task_id": "order-991",
            "deadline": 3600,
            "callback_url": "https://my.app/hook", "callback_events": ["job.*"],
            "metadata": {"order": "991"},
        }  # fmt: skip
        response = await api.call("POST", "/v1/jobs", 202, body)
        job = response.json()
        assert (
            response.headers["location"]
            == job["links"]["self"]
            == f"https://hooks.example.com/v1/jobs/{job['id']}"
        )
        assert response.headers["retry-after"]
        assert response.headers["etag"] == '"v1"'
        assert is_id(job["id"], "job")
        assert (job["object"], job["status"], job["vendor"], job["version"]) == (
            "job",
            "queued",
            "agentsflare",
            1,
        )
        assert (job["external_task_id"], job["metadata"]) == ("order-991", {"order": "991"})
        row = await api.job(job["id"])
        assert row["due_at"] == row["created_at"]
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == 3600
        assert row["callback_events"] == ["job.*"]
        (lane,) = await api.rows("subscriber")
        assert (row["callback_lane"], lane["callback_origin"]) == (lane["id"], "https://my.app")


async def test_absent_fields_get_their_defaults(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api)
        assert (job["account"], job["capability"], job["external_task_id"]) == (
            "main",
            "text2video",
            job["id"],
        )
        row = await api.job(job["id"])
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == 86400
        image = await submitted(api, input={"prompt": "x", "image_url": "https://i/x.png"})
        assert image["capability"] == "image2video"


async def test_document_0s_form_is_the_same_submission(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        inside = {
            "prompt": "a cat",
            "callback_url": "https://my.app/hook",
            "external_task_id": "my-task-123",
        }
        job = await api.post("/v1/jobs", 202, {"model": "kling-k3.0-std", "input": inside})
        assert job["external_task_id"] == "my-task-123"
        stored = (await api.job(job["id"]))["callback_url"]
        assert stored is not None
        assert api.runtime.keys.open_address(stored) == "https://my.app/hook"
        assert job["input"] == {"prompt": "a cat"}
        same = BODY | {"external_task_id": "a", "input": {"prompt": "x", "external_task_id": "a"}}
        assert (await api.post("/v1/jobs", 202, same))["external_task_id"] == "a"
        other = BODY | {"external_task_id": "b", "input": {"prompt": "x", "external_task_id": "c"}}
        refused = await api.post("/v1/jobs", 422, other)
        assert refused["errors"][0]["pointer"] == "/input/external_task_id"


@pytest.mark.parametrize("inside", [True, False])
async def test_an_empty_text_counts_as_absent_where_documents_show_it(
    tmp_path: Path, inside: bool
) -> None:
    ids = {"callback_url": "", "external_task_id": ""}
    given = {"prompt": "a cat", "negative_prompt": "", "last_image_url": ""}
    body = BODY | (ids if not inside else {}) | {"input": given | (ids if inside else {})}
    async with calling(tmp_path) as api:
        job = await api.post("/v1/jobs", 202, body)
        assert (job["input"], job["external_task_id"]) == ({"prompt": "a cat"}, job["id"])
        assert (await api.job(job["id"]))["callback_url"] is None
        one_place = body | {"external_task_id": "a", "callback_url": "https://my.app/hook"}
        job = await api.post("/v1/jobs", 202, one_place)
        assert job["external_task_id"] == "a"
        assert (await api.job(job["id"]))["callback_url"] is not None


@pytest.mark.parametrize("field", ["prompt", "image_url", "video_url", "mode"])
async def test_an_empty_text_in_any_other_field_is_refused(tmp_path: Path, field: str) -> None:
    async with calling(tmp_path) as api:
        given = {"prompt": "a cat", field: ""}
        refused = await api.post("/v1/jobs", 422, BODY | {"input": given})
        assert refused["errors"][0]["pointer"] == f"/input/{field}"


async def test_a_job_that_grows_when_it_is_written_out_is_refused(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        numbers = b",".join([b"1e15"] * 100_000)
        body = b'{"model": "kling-v3", "input": {"prompt": "x", "extra": {"n": [%s]}}}' % numbers
        refused = (await api.call("POST", "/v1/jobs", 422, content=body)).json()
        assert refused["errors"][0]["pointer"] == "/input"


async def test_new_hosts_of_callback_urls_are_inserted_in_one_order(h: Harness) -> None:
    """Two batches that insert the same hosts in two orders would deadlock on PostgreSQL."""
    urls = ["https://c.example/1", None, "https://a.example/1", "https://c.example/2"]
    lanes = await h.runtime.store.write(
        JobSubmission(h.runtime)._callback_lanes,
        [{"callback_url": url} for url in urls],
        h.clock.now(),
    )
    assert list(lanes) == ["https://a.example", "https://c.example"]
    rows = await h.rows(subscriber)
    assert {row["callback_origin"]: row["id"] for row in rows} == lanes
