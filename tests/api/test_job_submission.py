"""Submissions over HTTP: what is taken on, and what is refused with a pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.foundation.ids import is_id
from tests.api.test_support import BODY, TWO, calling, submitted

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_a_job_is_owned_before_it_is_accepted(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        body = BODY | {
            "account": "main", "capability": "text2video", "external_task_id": "order-991", "deadline": 3600,
            "callback_url": "https://my.app/hook", "callback_events": ["job.*"], "metadata": {"order": "991"},
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


async def test_what_is_left_out_is_filled_in(tmp_path: Path) -> None:
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
        assert (await api.job(job["id"]))["callback_url"] == "https://my.app/hook"
        assert job["input"] == {"prompt": "a cat"}
        same = BODY | {"external_task_id": "a", "input": {"prompt": "x", "external_task_id": "a"}}
        assert (await api.post("/v1/jobs", 202, same))["external_task_id"] == "a"
        other = BODY | {"external_task_id": "b", "input": {"prompt": "x", "external_task_id": "c"}}
        refused = await api.post("/v1/jobs", 422, other)
        assert refused["errors"][0]["pointer"] == "/input/external_task_id"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("callback_url", "http://10.0.0.1/hook"), ("callback_url", 5), ("external_task_id", "a b")],
)
async def test_document_0s_fields_are_pointed_at_where_they_were_written(
    tmp_path: Path, name: str, wrong: object
) -> None:
    async with calling(tmp_path) as api:
        inside = await api.post("/v1/jobs", 422, BODY | {"input": {"prompt": "x", name: wrong}})
        assert [one["pointer"] for one in inside["errors"]] == [f"/input/{name}"]
        assert inside["detail"].startswith(f"/input/{name}: ")
        outside = await api.post("/v1/jobs", 422, BODY | {name: wrong})
        assert [one["pointer"] for one in outside["errors"]] == [f"/{name}"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"account": "nobody"}, "/account"),
        ({"capability": "teleport"}, "/capability"),
        ({"model": ""}, "/model"),
        ({"model": None}, "/model"),
        ({"input": None}, "/input"),
        ({"input": {"prompt": ""}}, "/input/prompt"),
        ({"input": {"prompt": "x", "colour": "red"}}, "/input/colour"),
        ({"input": {"prompt": "x", "duration": "5"}}, "/input/duration"),
        ({"input": {"prompt": "x", "a/b~c": 1}}, "/input/a~1b~0c"),
        ({"input": {"prompt": "a\x00b"}}, "/input/prompt"),
        ({"colour": "red"}, "/colour"),
        ({"external_task_id": "a b"}, "/external_task_id"),
        ({"external_task_id": "x\n"}, "/external_task_id"),
        ({"external_task_id": ""}, "/external_task_id"),
        ({"callback_url": "ftp://my.app/hook"}, "/callback_url"),
        ({"callback_url": "http://127.0.0.1/hook"}, "/callback_url"),
        ({"callback_url": "http://[::1]/hook"}, "/callback_url"),
        ({"callback_url": "http://0x7f.1/hook"}, "/callback_url"),
        ({"callback_url": "https://user:pass@my.app/hook"}, "/callback_url"),
        ({"callback_url": "not a url"}, "/callback_url"),
        ({"callback_url": "https://my.app]/"}, "/callback_url"),
        ({"callback_events": ["job.exploded"]}, "/callback_events/0"),
        ({"callback_events": []}, "/callback_events"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {"a": "x" * 501}}, "/metadata"),
        ({"metadata": {str(n): n for n in range(51)}}, "/metadata"),
        ({"deadline": 0}, "/deadline"),
        ({"deadline": 1e9}, "/deadline"),
        ({"deadline": True}, "/deadline"),
    ],
)
async def test_a_wrong_field_is_pointed_at_and_nothing_is_owned(
    tmp_path: Path, change: dict[str, Any], pointer: str
) -> None:
    async with calling(tmp_path) as api:
        refused = await api.post("/v1/jobs", 422, BODY | change)
        assert refused["errors"][0]["pointer"] == pointer
        assert await api.rows("job") == []


async def test_a_field_that_the_dialect_cannot_carry_is_refused_naming_the_vendor(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        body = BODY | {
            "account": "dream",
            "input": {"prompt": "x", "last_image_url": "https://i/x.png"},
        }
        refused = await api.post("/v1/jobs", 422, body)
        assert refused["errors"][0]["pointer"] == "/input/last_image_url"
        assert "dreamto" in refused["errors"][0]["message"]
        refused = await api.post("/v1/jobs", 422, body | {"capability": "omni_video"})
        assert refused["errors"][0]["pointer"] == "/capability"


async def test_the_account_is_needed_where_there_are_several(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        assert (await api.post("/v1/jobs", 422, BODY))["errors"][0]["pointer"] == "/account"


async def test_an_echo_of_what_was_sent_is_in_no_refusal(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        refused = await api.post(
            "/v1/jobs", 422, BODY | {"deadline": "hunter2", "metadata": {"k": "hunter2" * 99}}
        )
        assert "hunter2" not in str(refused)
