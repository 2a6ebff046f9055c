"""Orders: the caller's `input` in our vocabulary, and the job as a vendor needs it.

`Input` is the whole vocabulary, and no vendor takes all of it. A `RequestMapping` (see
`field_mapping.py`) says which fields a dialect carries, and where they go in its request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from orchestrator.foundation.states import Capability
from orchestrator.vendors.media import Clip, Image

#: A JSON object as parsed. Its values are not validated again: there may be half a million.
Json = dict[str, Any]
Text = Annotated[str, StringConstraints(min_length=1, max_length=8192)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]


def absent_if_blank(value: Any) -> Any:
    """Return None for `""`, and any other value unchanged."""
    return None if value == "" else value


def may_be_blank(kind: Any) -> BeforeValidator:
    """Mark an optional field of a kind in which `""` counts as absent, as vendors' documents do.

    An empty text in any other field is refused: an image that a caller forgot would turn the order
    into another render. https://docs.agentsflare.com/en/api-examples/kling
    """
    blank = Annotated[str, StringConstraints(max_length=0)]
    return BeforeValidator(absent_if_blank, json_schema_input_type=kind | None | blank)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Point(_Part):
    """One point of a trajectory, in pixels."""

    x: float
    y: float


class DynamicMask(_Part):
    """A mask image and the path its area moves along."""

    mask: Image
    trajectories: Annotated[list[Point], Field(min_length=1, max_length=77)]


class Shot(_Part):
    """One shot of a multi-shot video; duration in seconds."""

    prompt: Text
    duration: Annotated[float, Field(gt=0, le=3600)] | None = None


class ReferenceVideo(_Part):
    """A video that an omni request refers to as `<<<video_n>>>`."""

    video_url: Clip
    refer_type: Literal["feature", "base"] | None = None
    keep_original_sound: bool | None = None


class Element(_Part):
    """A library element, by its opaque id."""

    element_id: Word


class CameraControl(_Part):
    """A camera movement. `config` maps an axis to -10..10.

    Axes: horizontal, vertical, pan, tilt, roll, zoom.
    """

    type: Word | None = None
    config: (
        Annotated[dict[Word, Annotated[float, Field(ge=-10, le=10)]], Field(max_length=16)] | None
    ) = None


class Input(_Part):
    """A job's `input`. Unknown fields are refused; `extra` is merged verbatim into the request."""

    prompt: Text | None = None
    negative_prompt: Annotated[Text | None, may_be_blank(Text)] = None
    image_url: Image | None = None
    last_image_url: Annotated[Image | None, may_be_blank(Image)] = None
    image_urls: Annotated[list[Image], Field(min_length=1, max_length=16)] | None = None
    video_url: Clip | None = None
    audio_url: Clip | None = None
    duration: Annotated[float, Field(gt=0, le=3600)] | None = None
    resolution: Word | None = None
    aspect_ratio: Word | None = None
    size: Word | None = None
    mode: Word | None = None
    cfg_scale: Annotated[float, Field(ge=0, le=1)] | None = None
    generate_audio: bool | None = None
    keep_original_sound: bool | None = None
    fixed_lens: bool | None = None
    watermark: bool | None = None
    static_mask: Image | None = None
    dynamic_masks: Annotated[list[DynamicMask], Field(min_length=1, max_length=16)] | None = None
    camera_control: CameraControl | None = None
    character_orientation: Word | None = None
    shot_type: Word | None = None
    shots: Annotated[list[Shot], Field(min_length=1, max_length=16)] | None = None
    videos: Annotated[list[ReferenceVideo], Field(min_length=1, max_length=16)] | None = None
    elements: Annotated[list[Element], Field(min_length=1, max_length=32)] | None = None
    extra: Json | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields the caller set as JSON: whole numbers as int, `extra` verbatim."""
        given: dict[str, Any] = _whole(self.model_dump(exclude_none=True, exclude={"extra"}))
        return given if self.extra is None else {**given, "extra": self.extra}


def _whole(value: Any) -> Any:
    """Return the value with 5.0 as 5: vendors that take whole seconds refuse `5.0`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return {key: _whole(item) for key, item in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True)
class Order:
    """One job as a dialect needs it. `given` is `Input.given()`; empty in a status query."""

    job_id: str
    model: str
    capability: Capability
    given: Mapping[str, Any]
    external_task_id: str
    callback_url: str | None = None
    vendor_task_id: str | None = None
    attempt: int = 1
