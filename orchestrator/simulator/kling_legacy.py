"""Kling's legacy standard: request fields and rules, the push body, and the query response.

Kling and the gateways behind it differ in the fields they require.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import schema
from orchestrator.simulator.contract import StatusQuery
from orchestrator.simulator.errors import ErrorKind, Refusal
from orchestrator.simulator.json_body import JSON, JsonObject, object_at, objects_at
from orchestrator.simulator.records import STATES, Snapshot, State

STATUSES: Final[Mapping[State, str]] = dict(
    zip(STATES, ("submitted", "processing", "queueing", "succeed", "failed"), strict=True)
)
CAPABILITIES: Final = {
    "text2video": "text2video",
    "image2video": "image2video",
    "motion-control": "motion_control",
    "omni-video": "omni_video",
    "multi-image2video": "multi_image2video",
}
BASIC: Final[schema.Fields] = {
    "mode": fields.MODE,
    "watermark_info": fields.WATERMARK,
    **fields.CALLBACK,
}
TIMED: Final[schema.Fields] = {
    **BASIC,
    "aspect_ratio": fields.RATIO,
    "duration": fields.SECONDS_TEXT,
}
TEXT_OPTIONS: Final[schema.Fields] = {
    **TIMED,
    "negative_prompt": fields.OPTIONAL_TEXT,
    "cfg_scale": fields.FRACTION,
    "sound": fields.ON_OFF,
    "camera_control": fields.CAMERA,
}
IMAGE_OPTIONS: Final[schema.Fields] = {
    **TEXT_OPTIONS,
    "image_tail": fields.MEDIA,
    "static_mask": fields.MEDIA,
    "dynamic_masks": fields.MASKS,
}
MULTI_IMAGE: Final = schema.object_of(
    {
        "model_name": fields.TEXT,
        "prompt": fields.TEXT,
        "image_list": schema.array(schema.object_of({"image": fields.MEDIA}), at_most=4),
    },
    {**TIMED, "negative_prompt": fields.OPTIONAL_TEXT},
)
MOTION_CONTROL: Final = schema.object_of(
    {"model_name": fields.TEXT, "image_url": fields.MEDIA, "video_url": fields.MEDIA},
    {
        **BASIC,
        "prompt": fields.TEXT,
        "keep_original_sound": fields.YES_NO,
        "character_orientation": schema.enum("image", "video"),
    },
)
REFERENCE: Final = {
    "refer_type": schema.enum("feature", "base"),
    "keep_original_sound": fields.YES_NO,
}
VIDEO_ITEM: Final = schema.object_of({"video_url": fields.MEDIA}, REFERENCE)
FRAME_TYPE: Final = {"type": schema.enum("first_frame", "end_frame")}
IMAGE_ITEM: Final = schema.object_of({"image_url": fields.MEDIA}, FRAME_TYPE)


def shots(duration: schema.Check) -> schema.Fields:
    """Multi-shot fields. A shot's duration is a number in document 4 and a string at Kling."""
    prompt = schema.string(at_most=512)
    shot = {"index": schema.integer(1, 6), "prompt": prompt, "duration": duration}
    return {
        "multi_shot": schema.boolean,
        "shot_type": schema.enum("customize", "intelligence"),
        "multi_prompt": schema.array(schema.object_of(shot), at_most=6),
    }


def omni(shot_duration: schema.Check) -> schema.Check:
    optional = {
        **TIMED,
        **shots(shot_duration),
        "prompt": fields.TEXT,
        "video_list": schema.array(VIDEO_ITEM),
        "image_list": schema.array(IMAGE_ITEM),
        "element_list": fields.ELEMENTS,
        "sound": fields.ON_OFF,
    }
    return schema.object_of({"model_name": fields.TEXT}, optional)


def prompt_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """Shots need multi_shot and a shot_type. A body without shot or image needs a prompt."""
    if "multi_prompt" in body and not (body.get("multi_shot") is True and "shot_type" in body):
        yield "multi_prompt: needs multi_shot true and shot_type"
    if not {"multi_prompt", "prompt", "image", "image_url"} & set(body):
        yield "prompt: missing"


def camera_rules(body: JsonObject) -> Iterator[str]:
    """Type `simple` moves along exactly one axis, within -10 and 10; other types have no config."""
    camera = object_at(body, "camera_control")
    if camera and camera.get("type") != "simple":
        if "config" in camera:
            yield "camera_control.config: only for type simple"
    elif camera:
        moved = [value for value in object_at(camera, "config").values() if value]
        if len(moved) != 1:
            yield "camera_control.config: exactly one axis must be non-zero"
        if any(isinstance(value, int | float) and abs(value) > 10 for value in moved):
            yield "camera_control.config: not within -10 and 10"


def exclusion_rules(body: JsonObject) -> Iterator[str]:
    """Last frame, masks and camera exclude each other.

    A trajectory has 2 to 77 points, a body up to 6 masks.
    """
    has_mask = "static_mask" in body or "dynamic_masks" in body
    if ("image_tail" in body) + ("camera_control" in body) + has_mask > 1:
        yield "body: image_tail, masks and camera_control exclude each other"
    masks = objects_at(body, "dynamic_masks")
    if len(masks) > 6:
        yield "dynamic_masks: more than 6 groups"
    for index, mask in enumerate(masks):
        if not 2 <= len(objects_at(mask, "trajectories")) <= 77:
            yield f"dynamic_masks.{index}.trajectories: must have 2 to 77 points"


def videos(shown: Snapshot, **more: JSON) -> list[JSON]:
    """Return `task_result.videos` of a Kling body; empty while the URL is withheld."""
    if not shown.url:
        return []
    render = shown.render
    return [{"id": render.ids.video, "url": shown.url, "duration": render.seconds, **more}]


def push_body(shown: Snapshot) -> JsonObject:
    """Return the flat push body, with Kling's own task id."""
    external = shown.render.external_task_id
    succeeded = shown.state == "succeeded"
    body: JsonObject = {
        "task_id": shown.render.ids.push,
        "task_status": STATUSES[shown.state],
        "task_status_msg": shown.message,
        "created_at": shown.created,
        "updated_at": shown.updated,
        "task_info": {"external_task_id": external} if external else {},
        "task_result": {"videos": videos(shown)} if succeeded else {},
    }
    if shown.is_final:
        body["final_unit_deduction"] = "1" if succeeded else "0"
    return body


def find(query: StatusQuery) -> Snapshot:
    """Return the render a query names, by task id or external id, under its own endpoint.

    Raises `Refusal` if it is unknown.
    """
    asked = query.path["id"]
    shown = query.by_task_id(asked) or query.by_external_id(asked)
    if shown is None or shown.render.endpoint != query.path["endpoint"]:
        raise Refusal(ErrorKind.NOT_FOUND)
    return shown
