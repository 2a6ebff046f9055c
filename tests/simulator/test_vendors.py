"""The simulator checks requests strictly by the vendors' documents, and answers as they show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from orchestrator.simulator import SimulatedVendors, Subscriber
from orchestrator.simulator.accounts import CREDENTIALS

Json = dict[str, Any]
CALLBACK_URL = "http://127.0.0.1:9/hook"
CLOUDSWAY, AGENTS = "cloudsway/v1/ai/sim-endpoint/kling", "agentsflare/klingai/v1/videos"
MASK = {"mask": "https://e.com/m.png", "trajectories": [{"x": 100, "y": 200}, {"x": 180, "y": 240}]}
MASKS = {"static_mask": "https://m", "dynamic_masks": [MASK]}
JOB = {
    "prompt": "a wave",
    "image_url": "https://i",
    "video_url": "https://v",
    "duration": 5,
    "generate_audio": False,
}
TWO_AXES = {"type": "simple", "config": {"horizontal": 5, "zoom": 0.5}}
UNIFIED = {
    "model": "kling-v3",
    "prompt": "a city",
    "mode": "std",
    "duration": 5,
    "size": "1920x1080",
}
COMPAT = {
    "model_name": "kling-v3",
    "prompt": "a city",
    "mode": "std",
    "duration": "5",
    "aspect_ratio": "16:9",
}
LEGACY = {
    "model_name": "kling-v3",
    "prompt": "a rabbit",
    "negative_prompt": "",
    "duration": "5",
    "mode": "pro",
}
FRAMED = {**LEGACY, "image": "https://a"}
NEW = {
    "prompt": "a dog",
    "settings": {"resolution": "1080p", "aspect_ratio": "16:9", "duration": 5},
    "options": {},
}
FRAME = {"type": "first_frame", "url": "https://e.com/f.jpg"}
IMAGE = {
    "contents": [FRAME, {"type": "prompt", "text": "a dog"}],
    "settings": {"duration": 8},
    "options": {},
}
FRAMES = {"contents": [FRAME, {**FRAME, "type": "last_frame"}], "options": {}}
SHOT = {"index": 1, "prompt": "wide", "duration": 2}
OMNI = {
    "model_name": "kling-v3-omni",
    "multi_shot": True,
    "shot_type": "customize",
    "multi_prompt": [SHOT],
}
MOTION = {
    "model_name": "kling-v2-6",
    "image_url": "https://i",
    "video_url": "https://v",
    "keep_original_sound": "yes",
}
MULTI = {
    "model_name": "kling-v1-6",
    "image_list": [{"image": "<image_1>"}],
    "prompt": "smooth",
    "duration": "5",
}
CAMERA = {"type": "simple", "config": {"horizontal": 0, "zoom": 5}}
UNIALL = {"model": "kling-v3-std-audio", "duration": 5, "extra_body": {"shot_type": "customize"}}
UNIALL_SHOTS = {**UNIALL, "image": "https://i", "extra_body": {"multi_prompt": [{"prompt": "one"}]}}

#: Path, body cut down from the vendor's own samples, field of the callback.
SAMPLES: dict[str, tuple[str, Json, str | None]] = {
    "dreamto": (
        "dreamto/v1/jobs",
        {"model": "m", "input": {**JOB, **MASKS, "camera_control": TWO_AXES}},
        "input",
    ),
    "uniall": ("uniall/v1/video/generations", {**UNIALL, "prompt": "a desert"}, "extra_body"),
    "uniall shots": ("uniall/v1/video/generations", UNIALL_SHOTS, "extra_body"),
    "unified": (
        "cubicspaces/v1/video/generations",
        {**UNIFIED, "metadata": {"image_tail": "https://l"}},
        "metadata",
    ),
    "compat": ("cubicspaces/kling/v1/videos/text2video", COMPAT, None),
    "cloudsway": (f"{CLOUDSWAY}/videos/text-to-video/kling-3.0-turbo", NEW, "options"),
    "cloudsway image": (f"{CLOUDSWAY}/videos/image-to-video/kling-3.0-turbo", IMAGE, "options"),
    "agentsflare": (
        f"{AGENTS}/text2video",
        {**LEGACY, "sound": "off", "aspect_ratio": "1:1"},
        None,
    ),
    "agentsflare image": (f"{AGENTS}/image2video", {**FRAMED, "image_tail": "https://b"}, None),
    "agentsflare motion": (f"{AGENTS}/motion-control", MOTION, None),
    "agentsflare omni": (f"{AGENTS}/omni-video", OMNI, None),
    "agentsflare images": (f"{AGENTS}/multi-image2video", MULTI, None),
    "kling": ("kling/v1/videos/text2video", {**LEGACY, "camera_control": CAMERA}, None),
    "kling masks": ("kling/v1/videos/image2video", {**FRAMED, **MASKS}, None),
    "kling shots": (
        "kling/v1/videos/omni-video",
        {**OMNI, "multi_prompt": [{**SHOT, "duration": "2"}]},
        None,
    ),
    "kling new": ("kling_v2/text-to-video/kling-3.0", NEW, "options"),
    "kling new frames": ("kling_v2/image-to-video/kling-3.0", FRAMES, "options"),
}
KLING_IMAGE, KLING_TEXT = "kling/v1/videos/image2video", "kling/v1/videos/text2video"
#: Path, body, HTTP status, code.
WRONG: list[tuple[str, Json, int, int | str | None]] = [
    ("dreamto/v1/jobs", {"model": "m", "input": {**JOB, "duration": "5"}}, 422, None),
    ("dreamto/v1/jobs", {"model": "m", "input": {"duration": 5}}, 422, None),
    ("uniall/v1/video/generations", {**UNIALL_SHOTS, "prompt": "and this"}, 400, "invalid_request"),
    ("cubicspaces/v1/video/generations", {**UNIFIED, "duration": "5"}, 400, "invalid_request"),
    (
        "cubicspaces/kling/v1/videos/text2video",
        {**COMPAT, "duration": 5},
        500,
        "build_request_failed",
    ),
    (SAMPLES["cloudsway"][0], {**NEW, "settings": {"duration": "5"}}, 400, 1201),
    (SAMPLES["cloudsway image"][0], {**IMAGE, "settings": {"aspect_ratio": "16:9"}}, 400, 1201),
    (
        SAMPLES["cloudsway image"][0],
        {"contents": [{"type": "prompt", "text": "no frame"}]},
        400,
        1201,
    ),
    ("cloudsway/v1/ai/other/kling/videos/text-to-video/kling-3.0-turbo", NEW, 404, 1203),
    (f"{AGENTS}/text2video", {**LEGACY, "duration": 5}, 400, 1201),
    (f"{AGENTS}/text2video", {"model_name": "m", "prompt": "no duration"}, 400, 1201),
    (KLING_TEXT, {**LEGACY, "camera_control": TWO_AXES}, 400, 1201),
    (KLING_TEXT, {**LEGACY, "camera_control": {"type": "down_back", "config": {}}}, 400, 1201),
    (KLING_IMAGE, {**FRAMED, **MASKS, "image_tail": "https://l"}, 400, 1201),
    (
        KLING_IMAGE,
        {**FRAMED, "dynamic_masks": [{**MASK, "trajectories": [{"x": 1, "y": 1}]}]},
        400,
        1201,
    ),
    ("kling_v2/image-to-video/kling-3.0-turbo", FRAMES, 400, 1201),
    ("kling_v2/text-to-video/kling-9", NEW, 404, 1203),
    ("kling/v1/videos/lip-sync", LEGACY, 404, 1203),
]


class Caller:
    """Submits with the right key, and queries where the document says."""

    def __init__(self, vendors: SimulatedVendors, http: httpx.AsyncClient) -> None:
        self.vendors, self.http = vendors, http

    async def post(self, path: str, body: Json, **headers: str) -> httpx.Response:
        key = {
            "authorization": f"Bearer {CREDENTIALS[path.split('/')[0]].api_key}",
            "content-type": "application/json",
        }
        return await self.http.post(path, content=json.dumps(body), headers={**key, **headers})

    async def submit(self, name: str, external: str = "e-1", **hooks: str) -> httpx.Response:
        path, body, field = SAMPLES[name]
        given = {"callback_url": CALLBACK_URL, "external_task_id": external, **hooks}
        return await self.post(
            path, {**body, field: {**body.get(field, {}), **given}} if field else {**body, **given}
        )

    async def query(self, name: str, task: str, by: str = "task_ids") -> httpx.Response:
        path = SAMPLES[name][0]
        vendor = path.split("/")[0]
        batch = {
            "cloudsway": f"{CLOUDSWAY}/tasks?{by}={task}",
            "kling_v2": f"kling_v2/tasks?{by}={task}",
        }
        url = batch.get(
            vendor, "uniall/v1/videos/" + task if vendor == "uniall" else f"{path}/{task}"
        )
        return await self.http.get(
            url, headers={"authorization": f"Bearer {CREDENTIALS[vendor].api_key}"}
        )


@asynccontextmanager
async def calling(**options: Any) -> AsyncIterator[Caller]:
    vendors = SimulatedVendors(**{"render_seconds": 0.02, **options})
    async with vendors, httpx.AsyncClient(base_url=vendors.base_url, verify=False) as http:
        yield Caller(vendors, http)


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_documented_request_is_accepted_and_an_undocumented_field_is_not(name: str) -> None:
    path, body, field = SAMPLES[name]
    async with calling() as caller:
        assert (await caller.post(path, body)).status_code == 200
        assert not caller.vendors.violations
        assert (await caller.post(path, {**body, "surprise": 1})).status_code in {400, 422}
        if field:
            assert (
                await caller.post(path, {**body, field: {**body.get(field, {}), "surprise": 1}})
            ).status_code in {400, 422}
        assert {violation.what.rpartition(".")[2] for violation in caller.vendors.violations} == {
            "surprise: unknown field"
        }
        assert len(caller.vendors.accepted(path.split("/")[0])) == 1


@pytest.mark.parametrize(("path", "body", "status", "code"), WRONG)
async def test_a_request_that_breaks_the_document_gets_the_documented_error(
    path: str, body: Json, status: int, code: int | str | None
) -> None:
    async with calling() as caller:
        answer = await caller.post(path, body)
        assert (answer.status_code, answer.json().get("code")) == (status, code)
        assert caller.vendors.violations
        assert not caller.vendors.renders


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("hook", ["callback_url", "external_task_id"])
async def test_an_empty_callback_or_external_id_is_a_violation(name: str, hook: str) -> None:
    async with calling() as caller:
        assert (await caller.submit(name, **{hook: ""})).status_code in {400, 422}
        assert hook in caller.vendors.violations[0].what


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_wrong_key_or_content_type_is_refused(name: str) -> None:
    path, body, _ = SAMPLES[name]
    async with calling() as caller:
        assert (await caller.post(path, body, authorization="Bearer unknown")).status_code == 401
        assert (await caller.post(path, body, authorization="")).status_code == 401
        assert (await caller.post(path, body, **{"content-type": "text/plain"})).status_code in {
            400,
            422,
        }
        assert len(caller.vendors.violations) == 3


PUSH_STATUSES = {"submitted", "processing", "succeed", "succeeded", "completed"}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("seed", [1, 2, 4])
async def test_every_status_change_is_pushed_in_a_documented_shape(name: str, seed: int) -> None:
    async with calling(seed=seed) as caller, Subscriber() as sink:
        await caller.submit(name, callback_url=sink.url)
        await caller.vendors.idle()
        bodies = [json.loads(push.body) for push in caller.vendors.pushes]
        assert [push.status for push in caller.vendors.pushes] == [200] * len(bodies)
        bodies = [body["data"] if "code" in body else body for body in bodies]
        assert {body.get("task_status", body.get("status")) for body in bodies} <= PUSH_STATUSES
        assert len(bodies) == (2 if bodies[0].get("object") == "job" else 3)
        assert "https://cdn.example.com/" in json.dumps(bodies[-1])
        assert all("cdn.example.com" not in json.dumps(body) for body in bodies[:-1])


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_status_query_shows_the_render_and_no_unknown_one(name: str) -> None:
    async with calling(render_seconds=0.1) as caller:
        await caller.submit(name)
        task = caller.vendors.renders[0].vendor_task_id
        assert "cdn.example.com" not in (await caller.query(name, task)).text
        await caller.vendors.idle()
        answer = await caller.query(name, task)
        assert (answer.status_code, "https://cdn.example.com/" in answer.text) == (200, True)
        unknown = await caller.query(name, "unknown")
        if "tasks?" in str(unknown.url):
            assert (unknown.status_code, unknown.json()["data"]) == (200, [])
        else:
            assert unknown.status_code in {400, 404}


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_repeated_external_id_is_refused_or_counted_as_a_double_render(name: str) -> None:
    async with calling() as caller:
        await caller.submit(name)
        again = await caller.submit(name)
        if again.status_code == 200:
            assert caller.vendors.double_renders() == [(caller.vendors.renders[0].vendor, "e-1")]
        else:
            assert (again.status_code, again.json()["message"]) == (
                400,
                "external_task_id already exists",
            )
            assert name.split()[0] in {"cloudsway", "agentsflare", "kling"}


@pytest.mark.parametrize("name", ["cloudsway", "kling new", "kling"])
async def test_renders_are_found_by_external_id(name: str) -> None:
    async with calling() as caller:
        await caller.submit(name, "order-7")
        answer = await caller.query(name, "order-7", by="external_task_ids")
        assert caller.vendors.renders[0].vendor_task_id in answer.text
