"""Checks for the fields that several vendors' documents share."""

from __future__ import annotations

from typing import Final

from orchestrator.simulator.json_body import (
    Check,
    any_of,
    array,
    boolean,
    enum,
    integer,
    number,
    object_of,
    pattern,
    string,
)

TEXT: Final = string()
OPTIONAL_TEXT: Final = string(empty=True)
# A Base64 image travels in the same field as a URL, so only the size is bounded.
MEDIA: Final = string(at_most=14_000_000)
RATIO: Final = pattern(r"\d+:\d+")
MODE: Final = enum("std", "pro")
ON_OFF: Final = enum("on", "off")
YES_NO: Final = enum("yes", "no")
SECONDS_TEXT: Final = pattern(r"\d+")
FRACTION: Final = number(0, 1)
AXES: Final = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
AXIS_VALUES: Final = object_of({}, dict.fromkeys(AXES, number()))
CAMERA: Final = object_of({"type": TEXT}, {"config": AXIS_VALUES})
TRAJECTORY: Final = array(object_of({"x": number(), "y": number()}), at_most=1000)
MASKS: Final = array(object_of({"mask": MEDIA, "trajectories": TRAJECTORY}))
ELEMENTS: Final = array(object_of({"element_id": any_of(TEXT, integer())}))
WATERMARK: Final = object_of({"enabled": boolean})
CALLBACK: Final[dict[str, Check]] = {
    "callback_url": pattern(r"https?://\S+"),
    "external_task_id": string(at_most=256),
}
#: Kling's own optional fields, as gateways pass them on.
KLING_OPTIONS: Final[dict[str, Check]] = {
    "negative_prompt": OPTIONAL_TEXT,
    "aspect_ratio": RATIO,
    "cfg_scale": FRACTION,
    "camera_control": CAMERA,
    "static_mask": MEDIA,
    "dynamic_masks": MASKS,
    **CALLBACK,
}
