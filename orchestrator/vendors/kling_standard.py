"""Kling's two official standards as forms. Kling itself and the gateways that pass its fields through share them.

Legacy: `POST /v1/videos/{endpoint}`, the model in the body, durations as strings.
New: `POST /{operation}/{model}`, the material in `contents`, durations as numbers.
Pages: https://klingai.com/document-api (both standards), https://docs.comfy.org/development/comfy-router/models/kling
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.foundation.errors import Unsupported
from orchestrator.foundation.states import Capability
from orchestrator.vendors.error_codes import error_fields
from orchestrator.vendors.field_mapping import (
    Fields,
    FieldTarget,
    RequestMapping,
    at_most,
    choice,
    seconds_text,
    whole_seconds,
)

Item = Mapping[str, Any]
Items = list[dict[str, Any]]
Forms = Mapping[Capability, RequestMapping]

_NEW_PROMPT = at_most(3072)
_YES_NO = choice("yes", "no")

# -- legacy

_WATERMARK: Fields = {"watermark": "watermark_info.enabled"}
_CLIP: Fields = {"duration": FieldTarget("duration", seconds_text), "mode": "mode", **_WATERMARK}
_PROMPTS: Fields = {"prompt": "prompt", "negative_prompt": "negative_prompt"}
_FINE: Fields = {
    "cfg_scale": "cfg_scale",
    "camera_control": "camera_control",
    "generate_audio": FieldTarget("sound", choice("on", "off")),
}


def _images(kind: str | None = None) -> Callable[[str], Items]:
    mark = {"type": kind} if kind else {}
    return lambda url: [{"image_url": url, **mark}]


def _reference(video: Item) -> dict[str, Any]:
    kept = video.get("keep_original_sound")
    return {**video, "keep_original_sound": _YES_NO(kept)} if kept is not None else dict(video)


def _multi_shot(seconds: Callable[[float], Any]) -> Callable[[Sequence[Item]], dict[str, Any]]:
    def spell(shots: Sequence[Item]) -> dict[str, Any]:
        spelled = [
            {
                "index": index,
                **shot,
                **({"duration": seconds(shot["duration"])} if "duration" in shot else {}),
            }
            for index, shot in enumerate(shots, 1)
        ]
        return {"multi_shot": True, "shot_type": "customize", "multi_prompt": spelled}

    return spell


def legacy_forms(shot_seconds: Callable[[float], Any]) -> Forms:
    """Return the legacy forms, their paths being endpoints. `shot_seconds` spells the duration of one shot."""
    image: Fields = {"image_url": "image", "last_image_url": "image_tail"}
    masks: Fields = {"static_mask": "static_mask", "dynamic_masks": "dynamic_masks"}
    motion: Fields = {
        "image_url": "image_url",
        "video_url": "video_url",
        "prompt": "prompt",
        "keep_original_sound": FieldTarget("keep_original_sound", _YES_NO),
        "character_orientation": "character_orientation",
        "mode": "mode",
        **_WATERMARK,
    }
    several: Fields = {
        "image_urls": FieldTarget("image_list[]", lambda urls: [{"image": url} for url in urls])
    }
    omni: Fields = {
        "prompt": "prompt",
        "image_url": FieldTarget("image_list[]", _images("first_frame")),
        "last_image_url": FieldTarget("image_list[]", _images("end_frame")),
        "image_urls": FieldTarget(
            "image_list[]", lambda urls: [{"image_url": url} for url in urls]
        ),
        "videos": FieldTarget(
            "video_list[]", lambda videos: [_reference(video) for video in videos]
        ),
        "elements": "element_list",
        "shots": FieldTarget("", _multi_shot(shot_seconds)),
        "shot_type": FieldTarget("", lambda kind: {"multi_shot": True, "shot_type": kind}),
        "aspect_ratio": "aspect_ratio",
        "generate_audio": _FINE["generate_audio"],
        **_CLIP,
    }
    wide: Fields = {"aspect_ratio": "aspect_ratio"}
    return {
        Capability.TEXT2VIDEO: RequestMapping(
            "text2video", {**_PROMPTS, **_CLIP, **_FINE, **wide}, required=("prompt",)
        ),
        Capability.IMAGE2VIDEO: RequestMapping(
            "image2video", {**image, **_PROMPTS, **_CLIP, **_FINE, **masks}, required=("image_url",)
        ),
        Capability.MULTI_IMAGE2VIDEO: RequestMapping(
            "multi-image2video",
            {**several, **_PROMPTS, **_CLIP, **wide},
            required=("image_urls", "prompt"),
        ),
        Capability.MOTION_CONTROL: RequestMapping(
            "motion-control", motion, required=("image_url", "video_url")
        ),
        Capability.OMNI_VIDEO: RequestMapping("omni-video", omni, required=("prompt|shots",)),
    }


# -- new

NEW_SETTINGS: Fields = {
    "resolution": "settings.resolution",
    "duration": FieldTarget("settings.duration", whole_seconds),
}
NEW_RATIO: Fields = {"aspect_ratio": "settings.aspect_ratio"}
NEW_AUDIO: Fields = {"generate_audio": FieldTarget("settings.audio", choice("native", "off"))}
NEW_WATERMARK: Fields = {"watermark": "options.watermark_info.enabled"}
PROMPT_OR_SHOTS = ("shots", "prompt")


def shots_text(shots: Sequence[Item]) -> str:
    """Return shots in the syntax of a prompt: `Shot n, m, words;`, n counting and m in seconds."""
    if any(";" in shot["prompt"] for shot in shots):
        raise ValueError("cannot carry a semicolon in a prompt: it ends the shot")
    if not all("duration" in shot for shot in shots):
        raise ValueError("need a duration each")
    said = (
        f"Shot {n}, {whole_seconds(shot['duration'])}, {shot['prompt']};"
        for n, shot in enumerate(shots, 1)
    )
    return _NEW_PROMPT(" ".join(said))


def _words(words: str) -> Items:
    return [{"type": "prompt", "text": _NEW_PROMPT(words)}]


def frame(kind: str) -> FieldTarget:
    """Return the place of one picture among `contents`."""
    return FieldTarget("contents[]", lambda url: [{"type": kind, "url": url}])


NEW_PROMPT: Fields = {
    "prompt": FieldTarget("prompt", _NEW_PROMPT),
    "shots": FieldTarget("prompt", shots_text),
}
NEW_WORDS: Fields = {
    "prompt": FieldTarget("contents[]", _words),
    "shots": FieldTarget("contents[]", lambda shots: _words(shots_text(shots))),
}


def _new_video(video: Item) -> dict[str, Any]:
    if "keep_original_sound" in video:
        raise ValueError("have no sound of their own here: use input/keep_original_sound")
    return {
        "type": "base_video" if video.get("refer_type") == "base" else "feature_video",
        "url": video["video_url"],
    }


def _number(body: dict[str, Any]) -> None:
    """Give the material its ids, by which a prompt refers to it: `@image_1`, `@video_1`, `@e1`."""
    seen: dict[str, int] = {}
    for item in body.get("contents", ()):
        kind = item["type"]
        if kind == "prompt":
            continue
        stem = "e" if kind == "element" else "video_" if kind.endswith("video") else "image_"
        seen[stem] = seen.get(stem, 0) + 1
        item["id"] = f"{stem}{seen[stem]}"


NEW_OMNI = RequestMapping(
    "omni-video",
    {
        "prompt": NEW_WORDS["prompt"],
        "image_url": frame("first_frame"),
        "last_image_url": frame("last_frame"),
        "image_urls": FieldTarget(
            "contents[]", lambda urls: [{"type": "refer_image", "url": url} for url in urls]
        ),
        "videos": FieldTarget("contents[]", lambda videos: [_new_video(video) for video in videos]),
        "elements": FieldTarget(
            "contents[]", lambda elements: [{"type": "element", **element} for element in elements]
        ),
        "keep_original_sound": FieldTarget("settings.audio", choice("original", "off")),
        **NEW_AUDIO,
        **NEW_SETTINGS,
        **NEW_RATIO,
        **NEW_WATERMARK,
    },
    required=("prompt",),
    exclusive=(("keep_original_sound", "generate_audio"),),
    finish=_number,
)


# -- both


def no_such_task(said: Any) -> bool:
    """True for Kling's "Task not found by id/external id". A bare 404 is a wrong address, not the absence of a task."""
    number, message = error_fields(said)
    return number == 1201 and "not found" in (message or "").lower()


_MOST_SHOTS = 6


_LONGEST_SHOT = 512


_AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")


def _camera(camera: Item) -> Item:
    config = camera.get("config") or {}
    moved = [value for value in config.values() if value]
    if unknown := sorted(set(config) - set(_AXES)):
        raise ValueError(f"has no axis {unknown[0]!r}")
    if camera.get("type", "simple") != "simple":
        if config:
            raise ValueError(f"of type {camera['type']!r} takes no config")
    elif len(moved) != 1 or not -10 <= moved[0] <= 10:
        raise ValueError(
            "of type 'simple' needs exactly one axis that is not zero, within -10 and 10"
        )
    return camera


def _masks(masks: Sequence[Item]) -> Sequence[Item]:
    if len(masks) > 6:
        raise ValueError(f"takes 6 groups, not {len(masks)}")
    for points in (len(mask["trajectories"]) for mask in masks):
        if not 2 <= points <= 77:
            raise ValueError(f"takes trajectories of 2 to 77 points, not {points}")
    return masks


_STRICT: Mapping[str, FieldTarget] = {
    "prompt": FieldTarget("prompt", at_most(2500)),
    "negative_prompt": FieldTarget("negative_prompt", at_most(2500)),
    "camera_control": FieldTarget("camera_control", _camera),
    "dynamic_masks": FieldTarget("dynamic_masks", _masks),
}


_ONE_OF = ("last_image_url", "static_mask|dynamic_masks", "camera_control")


def strict(forms: Forms) -> Forms:
    """Return legacy forms that refuse what Kling would: texts, cameras and masks out of bounds, or two guides."""
    return {
        capability: replace(
            form,
            fields={name: _STRICT.get(name, place) for name, place in form.fields.items()},
            exclusive=(_ONE_OF,),
        )
        for capability, form in forms.items()
    }


def check_shots(vendor: str, given: Item) -> None:
    """Raise `Unsupported` for shots beyond Kling's limits: 6 of 512 characters, together as long as the whole."""
    shots = given.get("shots", ())
    if len(shots) > _MOST_SHOTS:
        raise Unsupported("input/shots", f"{vendor} takes {_MOST_SHOTS} shots, not {len(shots)}")
    for index, shot in enumerate(shots):
        if len(shot["prompt"]) > _LONGEST_SHOT:
            raise Unsupported(
                f"input/shots/{index}/prompt",
                f"{vendor} takes {_LONGEST_SHOT} characters in a shot",
            )
    lengths = [shot["duration"] for shot in shots if "duration" in shot]
    if (
        lengths
        and len(lengths) == len(shots)
        and sum(lengths) != given.get("duration", sum(lengths))
    ):
        why = f"{vendor}: the shots last {sum(lengths)} s together, the duration is {given['duration']} s"
        raise Unsupported("input/shots", why)
