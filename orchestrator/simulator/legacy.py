"""What a request of Kling's legacy standard may hold. Kling and the gateways behind it differ in what they require."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from orchestrator.simulator.dialect import Ask, Refusal, Trouble
from orchestrator.simulator.fields import (
    CAMERA,
    ELEMENTS,
    FRACTION,
    HOOKS,
    MASKS,
    MAYBE_WORDS,
    MEDIA,
    MODE,
    ON_OFF,
    RATIO,
    SECONDS_TEXT,
    WATERMARK,
    WORDS,
    YES_NO,
)
from orchestrator.simulator.render import Sight
from orchestrator.simulator.shapes import (
    JSON,
    Check,
    JsonObject,
    array,
    boolean,
    integer,
    one_of,
    record,
    text,
)

CAPABILITIES: Final = {
    "text2video": "text2video",
    "image2video": "image2video",
    "motion-control": "motion_control",
    "omni-video": "omni_video",
    "multi-image2video": "multi_image2video",
}
BASICS: Final[Mapping[str, Check]] = {"mode": MODE, "watermark_info": WATERMARK, **HOOKS}
FRAMES: Final[Mapping[str, Check]] = {
    **BASICS,
    "negative_prompt": MAYBE_WORDS,
    "cfg_scale": FRACTION,
    "sound": ON_OFF,
    "aspect_ratio": RATIO,
    "duration": SECONDS_TEXT,
    "camera_control": CAMERA,
}
IMAGE: Final[Mapping[str, Check]] = {
    "image_tail": MEDIA,
    "static_mask": MEDIA,
    "dynamic_masks": MASKS,
}
MOTION: Final[Mapping[str, Check]] = {
    **BASICS,
    "prompt": WORDS,
    "keep_original_sound": YES_NO,
    "character_orientation": one_of("image", "video"),
}
VIDEO_ITEM: Final = record(
    {"video_url": MEDIA}, {"refer_type": one_of("feature", "base"), "keep_original_sound": YES_NO}
)
IMAGE_ITEM: Final = record({"image_url": MEDIA}, {"type": one_of("first_frame", "end_frame")})


def shots(duration: Check) -> Mapping[str, Check]:
    """Multi-shot fields. A shot's duration is a number in document 4 and a string at Kling."""
    shot = record({"index": integer(1, 6), "prompt": text(at_most=512), "duration": duration})
    return {
        "multi_shot": boolean,
        "shot_type": one_of("customize", "intelligence"),
        "multi_prompt": array(shot, at_most=6),
    }


def omni(duration: Check) -> Check:
    own = {
        "video_list": array(VIDEO_ITEM),
        "image_list": array(IMAGE_ITEM),
        "element_list": ELEMENTS,
    }
    basics = {**BASICS, "aspect_ratio": RATIO, "duration": SECONDS_TEXT, "sound": ON_OFF}
    return record({"model_name": WORDS}, {"prompt": WORDS, **own, **basics, **shots(duration)})


MULTI_IMAGE: Final = record(
    {
        "model_name": WORDS,
        "prompt": WORDS,
        "image_list": array(record({"image": MEDIA}), at_most=4),
    },
    {**BASICS, "negative_prompt": MAYBE_WORDS, "aspect_ratio": RATIO, "duration": SECONDS_TEXT},
)
MOTION_CONTROL: Final = record(
    {"model_name": WORDS, "image_url": MEDIA, "video_url": MEDIA}, MOTION
)


def prompt_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """Shots come with multi_shot and a shot_type; where there is neither shot nor image, there is a prompt."""
    if "multi_prompt" in body and not (body.get("multi_shot") is True and "shot_type" in body):
        yield "multi_prompt: needs multi_shot true and shot_type"
    if not {"multi_prompt", "prompt", "image", "image_url"} & set(body):
        yield "prompt: missing"


def legacy_answer(ask: Ask, show: Callable[[Sight], JSON], message: str) -> JsonObject:
    """One render, by task id or external id, and only under the endpoint it was submitted to."""
    asked = ask.path["id"]
    sight = ask.by_task_id(asked) or ask.by_external_id(asked)
    if sight is None or sight.render.endpoint != ask.path["endpoint"]:
        raise Refusal(Trouble.NOT_FOUND)
    return {"code": 0, "message": message, "data": show(sight)}
