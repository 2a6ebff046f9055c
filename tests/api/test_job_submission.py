"""Submissions over HTTP: jobs as they are stored and returned."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import structlog

from orchestrator.database.tables import subscriber
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import after, rfc3339
from orchestrator.foundation.ids import is_id
from orchestrator.jobs.intake import JobIntake
from tests.api.test_support import BODY, calling, submitted
from tests.harness.engine import drive
from tests.harness.runtime import START, Harness
from tests.vendors.test_large_images import reference

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


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90),
        (0.0, 0),
        (30 * 86400, 30 * 86400),
        ("2026-11-20T11:00:00+00:00", 3600),
        ("2026-12-20t10:00:00z", 30 * 86400),
        ("2026-11-20T12:00:00+03:00", 0),
    ],
)
async def test_a_job_starts_at_its_time_and_its_deadline_counts_from_then(
    tmp_path: Path, given: object, seconds: float
) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api, start_after=given, deadline=3600)
        row = await api.job(job["id"])
        now = START if isinstance(given, str) else row["created_at"]
        start = after(now, seconds) if seconds else None
        assert row["start_after"] == start
        assert row["due_at"] == (start or row["created_at"])
        assert row["deadline_at"] == after(row["due_at"], 3600)
        assert (job["status"], job["start_after"]) == ("queued", start and rfc3339(start))


async def test_a_job_that_waits_for_its_start_may_be_canceled(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api, start_after=600)
        assert await drive(api.runtime.assemble(Submitter)) == 0
        canceled = await api.post(f"/v1/jobs/{job['id']}/cancel", 200)
        assert canceled["status"] == "canceled"


async def test_turns_are_of_the_api_key_or_of_the_fairness_key(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        plain = await submitted(api)
        named = await submitted(api, priority=7, fairness_key="c \u2603")
        assert (plain["priority"], plain["fairness_key"]) == (0, None)
        assert (named["priority"], named["fairness_key"]) == (7, "c \u2603")
        null = await submitted(api, priority=None, fairness_key=None)
        assert (null["priority"], null["fairness_key"]) == (0, None)
        rows = [await api.job(job["id"]) for job in (plain, named)]
        assert [row["queue_rank"] for row in rows] == [0, -7]
        assert [row["fairness_key"] for row in rows] == [rows[0]["api_key"], "c \u2603"]


async def test_a_retry_keeps_the_turns_of_its_job_and_starts_at_once(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        job = await submitted(api, priority=3, fairness_key="c", start_after=600, deadline=60)
        await api.post(f"/v1/jobs/{job['id']}/cancel", 200)
        again = await api.post(f"/v1/jobs/{job['id']}/retry", 202)
        assert (again["priority"], again["fairness_key"]) == (3, "c")
        assert again["start_after"] is None
        row = await api.job(again["id"])
        assert row["due_at"] == row["created_at"]
        assert (row["deadline_at"] - row["created_at"]).total_seconds() == 60


@pytest.mark.parametrize(
    "change", [{"start_after": 61}, {"priority": 1}, {"fairness_key": "b"}, {"start_after": None}]
)
async def test_an_idempotency_key_stands_for_the_start_and_the_turns_too(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async with calling(tmp_path) as api:
        body = BODY | {"start_after": 60, "priority": 0, "fairness_key": "a"}
        headers = {"idempotency-key": "order-1"}
        first = await api.post("/v1/jobs", 202, body, headers=headers)
        api.clock.advance(5)
        assert (await api.post("/v1/jobs", 202, body, headers=headers))["id"] == first["id"]
        refused = await api.post("/v1/jobs", 422, body | change, headers=headers)
        assert refused["code"] == "idempotency_key_reused"


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


async def test_an_unknown_model_is_taken_and_logged_once(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        with structlog.testing.capture_logs() as logs:
            for model in ("kling-v3", "kling-v9", "kling-v9"):
                await api.post("/v1/jobs", 202, BODY | {"model": model})
        assert [(line["model"], line["account"]) for line in logs] == [("kling-v9", "main")]
        models = (await api.get("/v1/accounts/main"))["models"]
        assert models["motion_control"] == ["kling-v2-6"]


async def test_images_of_10_mb_are_kept_beside_the_job(tmp_path: Path) -> None:
    first, last = (base64.b64encode(bytes([n]) * (n << 20)).decode() for n in (1, 10))
    given = {"prompt": "a", "image_url": first, "last_image_url": last}
    async with calling(tmp_path) as api:
        key = {"Idempotency-Key": "k"}
        job = await api.post("/v1/jobs", 202, BODY | {"input": given}, headers=key)
        assert job == await api.post("/v1/jobs", 202, BODY | {"input": given}, headers=key)
        shown = {name: reference(given[name]) for name in ("image_url", "last_image_url")}
        assert job["input"] == {"prompt": "a"} | shown
        assert (await api.get("/v1/jobs"))["data"] == [job]
        images = {row["reference"]: row["image"].decode() for row in await api.rows("job_image")}
        assert images == {shown[name]: given[name] for name in shown}
        await api.finish(job["id"])
        again = await api.post(f"/v1/jobs/{job['id']}/retry", 202, {"again": True})
        assert again["input"] == job["input"]
        copied = [row for row in await api.rows("job_image") if row["job_id"] == again["id"]]
        assert {row["reference"]: row["image"].decode() for row in copied} == images


LARGE = "A" * (1 << 20)
DATA_URI = "data:image/png;base64," + LARGE


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"input": {"prompt": LARGE}}, 413, None),
        ({"input": {"prompt": "a", "image_url": LARGE + "A"}}, 422, "/input/image_url"),
        ({"input": {"prompt": "a", "image_url": DATA_URI}}, 422, "/input/image_url"),
        ({"input": {"prompt": "a", "shots": [{"prompt": LARGE}]}}, 413, None),
        ({"input": {"prompt": "a"}, "metadata": {"a": LARGE}}, 413, None),
        ({"input": {"prompt": "a"}, LARGE: 1}, 413, None),
        ({"input": {"prompt": "a", "extra": {"mask": [LARGE]}}}, 413, None),
        ({"input": {"prompt": "a", "extra": {"a": "a b" * 400_000}}}, 413, None),
        ({"input": {"prompt": "a", "extra": {"a": [""] * 600_000}}}, 413, None),
        ({"input": {"prompt": "a", "extra": {"a": [[]] * 600_000}}}, 413, None),
    ],
)  # fmt: skip
async def test_a_body_over_1_mib_exceeds_it_by_images_alone(
    tmp_path: Path, change: dict[str, Any], status: int, pointer: str | None
) -> None:
    async with calling(tmp_path) as api:
        answer = await api.post("/v1/jobs", status, BODY | change)
        if pointer:
            assert [error["pointer"] for error in answer["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"extra": {"a": ['"' + reference(LARGE + LARGE)]}}, 422),
        ({"extra": {'"' + reference(LARGE + LARGE): 1}}, 422),
        ({"image_urls": [reference(LARGE + LARGE)] * 16}, 413),
    ],
)
async def test_a_body_holds_no_references_of_its_own_images(
    tmp_path: Path, more: dict[str, Any], status: int
) -> None:
    """The vendor's request would have the image in place of each: gigabytes."""
    given = {"prompt": "a", "image_url": LARGE + LARGE} | more
    async with calling(tmp_path) as api:
        await api.post("/v1/jobs", status, BODY | {"input": given})
        assert await api.rows("job") == []


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
        h.runtime.assemble(JobIntake).callback_lanes, urls, h.clock.now()
    )
    assert list(lanes) == ["https://a.example", "https://c.example"]
    rows = await h.rows(subscriber)
    assert {row["callback_origin"]: row["id"] for row in rows} == lanes
