"""The fields that several documents share, and Kling's own rules about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.simulator.shapes import (
    Check,
    JsonObject,
    array,
    boolean,
    either,
    integer,
    matching,
    number,
    one_of,
    record,
    text,
)

WORDS: Final = text()
MAYBE_WORDS: Final = text(empty=True)
# A Base64 image travels in the same field as a URL, so only the size is bounded.
MEDIA: Final = text(at_most=14_000_000)
RATIO: Final = matching(r"\d+:\d+")
MODE: Final = one_of("std", "pro")
ON_OFF: Final = one_of("on", "off")
YES_NO: Final = one_of("yes", "no")
SECONDS_TEXT: Final = matching(r"\d+")
FRACTION: Final = number(0, 1)
AXES: Final = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
CAMERA: Final = record({"type": WORDS}, {"config": record({}, dict.fromkeys(AXES, number()))})
TRAJECTORY: Final = array(record({"x": number(), "y": number()}), at_most=1000)
MASKS: Final = array(record({"mask": MEDIA, "trajectories": TRAJECTORY}))
ELEMENTS: Final = array(record({"element_id": either(WORDS, integer())}))
WATERMARK: Final = record({"enabled": boolean})
HOOKS: Final[dict[str, Check]] = {
    "callback_url": matching(r"https?://\S+"),
    "external_task_id": text(at_most=256),
}


def camera_rules(body: JsonObject) -> Iterator[str]:
    """Type `simple` moves along exactly one axis, within -10 and 10; the other types take no config."""
    camera = body.get("camera_control")
    if not isinstance(camera, dict):
        return
    config = camera.get("config")
    if camera.get("type") != "simple":
        if config is not None:
            yield "camera_control.config: only for type simple"
        return
    moved = [value for value in config.values() if value] if isinstance(config, dict) else []
    if len(moved) != 1:
        yield "camera_control.config: exactly one axis must be non-zero"
    if any(isinstance(value, int | float) and abs(value) > 10 for value in moved):
        yield "camera_control.config: not within -10 and 10"


def exclusion_rules(body: JsonObject) -> Iterator[str]:
    """Last frame, masks and camera exclude each other; a trajectory has 2 to 77 points, a body up to 6 of them."""
    masks = body.get("dynamic_masks")
    kinds = {"image_tail": "image_tail", "camera_control": "camera_control"}
    kinds |= {"static_mask": "masks", "dynamic_masks": "masks"}
    if len({kind for field, kind in kinds.items() if field in body}) > 1:
        yield "body: image_tail, masks and camera_control exclude each other"
    if not isinstance(masks, list):
        return
    if len(masks) > 6:
        yield "dynamic_masks: more than 6 groups"
    for index, mask in enumerate(masks):
        points = mask.get("trajectories") if isinstance(mask, dict) else None
        if isinstance(points, list) and not 2 <= len(points) <= 77:
            yield f"dynamic_masks.{index}.trajectories: wants 2 to 77 points"
