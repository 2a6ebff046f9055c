"""Gateway document 2: cubicspaces, a new-api deployment with a unified route and a Kling-compatible one.

It answers a question as its document says (`video`), as stock new-api does (`task`), or as older new-api did, with the
URL in `fail_reason` (`old_task`).
"""

from __future__ import annotations

from functools import partial
from typing import Final, Literal, TypeAlias

from orchestrator.simulator.dialect import Ask, Dialect, Entrance, Inquiry
from orchestrator.simulator.fields import (
    CAMERA,
    FRACTION,
    HOOKS,
    MASKS,
    MAYBE_WORDS,
    MEDIA,
    MODE,
    RATIO,
    WORDS,
)
from orchestrator.simulator.kling import LEGACY_WORDS, legacy_push, legacy_videos
from orchestrator.simulator.render import Sight
from orchestrator.simulator.shapes import JsonObject, matching, number, record
from orchestrator.simulator.video_object import PROGRESS, capability, find, names, trouble, video

Shape: TypeAlias = Literal["video", "task", "old_task", "mixed"]
SILENT_FAILURE_COIN: Final = 2
TASK_WORDS: Final = {
    "submitted": "QUEUED",
    "processing": "IN_PROGRESS",
    "unknown": "UNKNOWN",
    "succeeded": "SUCCESS",
}
KLING_FIELDS: Final = {
    "negative_prompt": MAYBE_WORDS,
    "aspect_ratio": RATIO,
    "image_tail": MEDIA,
    "cfg_scale": FRACTION,
    "camera_control": CAMERA,
    "static_mask": MEDIA,
    "dynamic_masks": MASKS,
    **HOOKS,
}
UNIFIED_BODY: Final = record(
    {"model": WORDS, "prompt": WORDS},
    {
        "image": MEDIA,
        "mode": MODE,
        "duration": number(1, 60),
        "size": matching(r"\d+x\d+"),
        "metadata": record({}, KLING_FIELDS),
    },
)
# The relay decodes the whole body into Kling's struct, whose duration is a string: a number there is a 500.
COMPAT_FIELDS: Final = {**KLING_FIELDS, "mode": MODE, "duration": matching(r"\d+")}
COMPAT_TEXT: Final = record({"model_name": WORDS, "prompt": WORDS}, COMPAT_FIELDS)
COMPAT_IMAGE: Final = record({"model_name": WORDS, "prompt": WORDS, "image": MEDIA}, COMPAT_FIELDS)


def shown(sight: Sight) -> JsonObject:
    """As document 2 shows it. A failure may come without any text, as new-api's does when Kling's code is 0."""
    body = video(sight)
    if sight.is_final:
        body["completed_at"] = sight.updated // 1000
    if sight.state == "succeeded":
        body["seconds"] = sight.render.seconds
    if sight.url:
        body["metadata"] = {"url": sight.url}
    if sight.state == "failed" and not sight.render.coin(SILENT_FAILURE_COIN):
        body["error"] = {"message": sight.message, "code": "1301"}
    return body


def task(sight: Sight, old: bool = False) -> JsonObject:
    """new-api's TaskDto with the raw Kling body inside."""
    render, done = sight.render, sight.is_final
    raw: JsonObject = {
        "task_id": render.names.push,
        "task_status": LEGACY_WORDS[sight.state],
        "task_status_msg": sight.message,
        "task_result": {"videos": [*legacy_videos(sight)]} if sight.url else {},
        "created_at": sight.created,
        "updated_at": sight.updated,
    }
    data: JsonObject = {
        "task_id": render.names.task,
        "platform": "50",
        "action": "textGenerate" if render.capability == "text2video" else "generate",
        "status": TASK_WORDS.get(sight.state, "FAILURE"),
        "fail_reason": (sight.url or "") if old and not sight.message else sight.message,
        "submit_time": sight.created // 1000,
        "start_time": sight.created // 1000,
        "finish_time": sight.updated // 1000 if done else 0,
        "progress": f"{PROGRESS[sight.state]}%",
        "properties": {"input": ""},
        "data": {"code": 0, "message": "SUCCEED", "data": raw},
    }
    if sight.url and not old:
        data["result_url"] = sight.url
    return {"code": "success", "message": "", "data": data}


def answer(ask: Ask, shape: Shape) -> JsonObject:
    sight = find(ask)
    mixed: tuple[Shape, ...] = ("video", "task", "old_task", "video")
    match mixed[sight.render.coins >> 3 & 3] if shape == "mixed" else shape:
        case "task":
            return task(sight)
        case "old_task":
            return task(sight, old=True)
        case _:
            return shown(sight)


def compat(endpoint: str) -> Entrance:
    """A Kling-compatible route; everything stands at the top level."""
    check = COMPAT_TEXT if endpoint == "text2video" else COMPAT_IMAGE
    return Entrance(
        f"/kling/v1/videos/{endpoint}",
        endpoint,
        check,
        lambda _: endpoint,
        receipt=video,
        push=legacy_push,
    )


def cubicspaces(shape: Shape = "mixed") -> Dialect:
    """cubicspaces, answering questions in one shape, or in one chosen per render (`mixed`)."""
    unified = "/v1/video/generations"
    asked = partial(answer, shape=shape)
    return Dialect(
        mount="cubicspaces",
        entrances=(
            Entrance(
                unified,
                "generations",
                UNIFIED_BODY,
                capability,
                receipt=video,
                push=legacy_push,
                hooks="metadata",
            ),
            compat("text2video"),
            compat("image2video"),
        ),
        inquiries=(
            Inquiry(unified + "/{id}", asked),
            Inquiry("/kling/v1/videos/{endpoint}/{id}", asked),
        ),
        names=partial(names, prefix="video_"),
        trouble=trouble,
    )
