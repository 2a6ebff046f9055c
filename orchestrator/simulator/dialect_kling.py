"""Kling itself: the legacy standard under /v1/videos/* and the new one under /{operation}/{model}, on one host.

Legacy takes a static API key or a JWT made of AccessKey and SecretKey; the new standard takes the API key only.
External ids are unique across both, and `/tasks` shows renders of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from orchestrator.simulator.dialect import Ask, Dialect, Entrance, Inquiry
from orchestrator.simulator.fields import (
    ELEMENTS,
    MEDIA,
    RATIO,
    SECONDS_TEXT,
    WORDS,
    camera_rules,
    exclusion_rules,
)
from orchestrator.simulator.kling import (
    REQUEST_ID,
    kling_names,
    kling_trouble,
    legacy_push,
    legacy_videos,
    new_item,
    new_receipt,
)
from orchestrator.simulator.legacy import (
    CAPABILITIES,
    FRAMES,
    IMAGE,
    MOTION_CONTROL,
    MULTI_IMAGE,
    legacy_answer,
    omni,
    prompt_rules,
    shots,
)
from orchestrator.simulator.new import (
    ALIAS,
    OPTIONS,
    PROMPT,
    TASK_ARGS,
    frame_rules,
    kinds,
    media,
    settings,
    tasks,
    text_body,
)
from orchestrator.simulator.render import Sight
from orchestrator.simulator.shapes import (
    Check,
    JsonObject,
    array,
    boolean,
    matching,
    one_of,
    record,
    variant,
)

SHOTS: Final = {**shots(SECONDS_TEXT), "prompt": WORDS, "element_list": ELEMENTS}
LEGACY: Final[Mapping[str, Check]] = {
    "text2video": record({"model_name": WORDS}, {**FRAMES, **SHOTS}),
    "image2video": record({"model_name": WORDS, "image": MEDIA}, {**FRAMES, **IMAGE, **SHOTS}),
    "motion-control": MOTION_CONTROL,
    "omni-video": omni(SECONDS_TEXT),
    "multi-image2video": MULTI_IMAGE,
}
RESOLUTION: Final = one_of("720p", "1080p", "4k")
MORE: Final[Mapping[str, Check]] = {
    "audio": one_of("native", "original", "off"),
    "multi_shot": boolean,
}
SETTINGS: Final = settings(resolution=RESOLUTION, aspect_ratio=RATIO, **MORE)
MEDIA_TYPES: Final = ("first_frame", "last_frame", "refer_image", "feature_video", "base_video")
CONTENTS: Final = array(
    variant(
        "type",
        {
            "prompt": record({"type": matching("prompt"), "text": PROMPT}),
            "element": record({"type": matching("element"), "element_id": WORDS}, ALIAS),
            **{kind: media(kind) for kind in MEDIA_TYPES},
        },
    )
)
CONTENTS_BODY: Final = record({"contents": CONTENTS}, {"settings": SETTINGS, "options": OPTIONS})
MODELS: Final = frozenset(
    {"kling-3.0-turbo", "kling-3.0", "kling-3.0-omni", "kling-o1", "kling-2.6", "kling-2.5-turbo"}
)
NEW: Final[Mapping[str, tuple[str, Check]]] = {
    "text-to-video": ("text2video", text_body(RESOLUTION, **MORE)),
    "image-to-video": ("image2video", CONTENTS_BODY),
    "omni-video": ("omni_video", CONTENTS_BODY),
    "motion-control": ("motion_control", CONTENTS_BODY),
}


def legacy_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """All that Kling's own pages state."""
    yield from prompt_rules(body, path)
    yield from camera_rules(body)
    yield from exclusion_rules(body)


def new_rules(body: JsonObject, path: Mapping[str, str], operation: str) -> Iterator[str]:
    """What an operation needs among `contents`; 3.0-turbo has no last frame."""
    given = kinds(body)
    if operation == "image-to-video":
        yield from frame_rules(body, path)
        if "last_frame" in given and path["model"] == "kling-3.0-turbo":
            yield "contents: kling-3.0-turbo takes no last_frame"
        if {"refer_image", "feature_video", "base_video", "element"} & set(given):
            yield "contents: image-to-video takes prompt, first_frame and last_frame"
    if operation == "motion-control" and not (
        {"first_frame", "refer_image"} & set(given) and {"feature_video", "base_video"} & set(given)
    ):
        yield "contents: motion-control wants an image and a video"


def task(sight: Sight) -> JsonObject:
    """`data` of a legacy answer."""
    body = legacy_push(sight)
    del body["task_result"]
    if sight.state == "succeeded":
        body["task_result"] = {
            "videos": [{**video, "watermark_url": ""} for video in legacy_videos(sight)]
        }
    return body


def receipt(sight: Sight) -> JsonObject:
    data = {name: value for name, value in task(sight).items() if name != "task_status_msg"}
    return {"code": 0, "message": "SUCCEED", "request_id": REQUEST_ID, "data": data}


def answer(ask: Ask) -> JsonObject:
    return {**legacy_answer(ask, task, "SUCCEED"), "request_id": REQUEST_ID}


def legacy_entrance(endpoint: str, check: Check) -> Entrance:
    return Entrance(
        f"/v1/videos/{endpoint}",
        endpoint,
        check,
        lambda _: CAPABILITIES[endpoint],
        receipt=receipt,
        push=legacy_push,
        rules=legacy_rules,
        takes_jwt=True,
    )


def new_entrance(operation: str, capability: str, check: Check) -> Entrance:
    return Entrance(
        f"/{operation}/{{model}}",
        operation,
        check,
        lambda _: capability,
        receipt=new_receipt,
        push=new_item,
        hooks="options",
        rules=partial(new_rules, operation=operation),
        models=MODELS,
    )


def kling(mount: str) -> Dialect:
    """One Kling host. Two accounts that must not share external ids live on two mounts."""
    return Dialect(
        mount=mount,
        entrances=(
            *(legacy_entrance(endpoint, check) for endpoint, check in LEGACY.items()),
            *(new_entrance(operation, *form) for operation, form in NEW.items()),
        ),
        inquiries=(
            Inquiry(
                "/v1/videos/{endpoint}/{id}",
                lambda ask: legacy_answer(ask, task, "SUCCEED"),
                takes_jwt=True,
            ),
            Inquiry("/tasks", tasks, TASK_ARGS),
        ),
        names=kling_names,
        trouble=kling_trouble,
        unique_external_ids=True,
    )
