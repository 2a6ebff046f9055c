"""Checks for the fields that several vendors' documents share."""

from __future__ import annotations

from typing import Final

from orchestrator.simulator import schema

TEXT: Final = schema.string()
OPTIONAL_TEXT: Final = schema.string(empty=True)
# A Base64 image travels in the same field as a URL, so only the size is bounded.
MEDIA: Final = schema.string(at_most=14_000_000)
RATIO: Final = schema.pattern(r"\d+:\d+")
MODE: Final = schema.enum("std", "pro")
ON_OFF: Final = schema.enum("on", "off")
YES_NO: Final = schema.enum("yes", "no")
SECONDS_TEXT: Final = schema.pattern(r"\d+")
FRACTION: Final = schema.number(0, 1)
AXES: Final = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
AXIS_VALUES: Final = schema.object_of({}, dict.fromkeys(AXES, schema.number()))
CAMERA: Final = schema.object_of({"type": TEXT}, {"config": AXIS_VALUES})
POINT: Final = schema.object_of({"x": schema.number(), "y": schema.number()})
TRAJECTORY: Final = schema.array(POINT, at_most=1000)
MASKS: Final = schema.array(schema.object_of({"mask": MEDIA, "trajectories": TRAJECTORY}))
ELEMENT_ID: Final = schema.any_of(TEXT, schema.integer())
ELEMENTS: Final = schema.array(schema.object_of({"element_id": ELEMENT_ID}))
WATERMARK: Final = schema.object_of({"enabled": schema.boolean})
CALLBACK: Final[schema.Fields] = {
    "callback_url": schema.pattern(r"https?://\S+"),
    "external_task_id": schema.string(at_most=256),
}
#: Kling's own optional fields, as gateways pass them on.
KLING_OPTIONS: Final[schema.Fields] = {
    "negative_prompt": OPTIONAL_TEXT,
    "aspect_ratio": RATIO,
    "cfg_scale": FRACTION,
    "camera_control": CAMERA,
    "static_mask": MEDIA,
    "dynamic_masks": MASKS,
    **CALLBACK,
}
