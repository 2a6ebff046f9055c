"""Kling's two official standards as request mappings, shared by Kling and pass-through gateways.

Legacy: `POST /v1/videos/{endpoint}`, the model in the body, durations as strings.
New: `POST /{operation}/{model}`, media in `contents`, durations as numbers.
Pages: https://klingai.com/document-api (both standards),
https://docs.comfy.org/development/comfy-router/models/kling
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.foundation.errors import Unsupported
from orchestrator.foundation.states import Capability
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

_YES_NO = choice("yes", "no")

# -- both standards

MAX_SHOTS = 6
MAX_SHOT_CHARACTERS = 512


def check_shots(vendor: str, given: Item) -> None:
    """Raise `Unsupported` for shots beyond Kling's limits.

    At most 6 shots of 512 characters; if each has a duration, their sum is the video's.
    """
    shots = given.get("shots", ())
    if len(shots) > MAX_SHOTS:
        raise Unsupported("input/shots", f"{vendor} takes {MAX_SHOTS} shots, not {len(shots)}")
    for index, shot in enumerate(shots):
        if len(shot["prompt"]) > MAX_SHOT_CHARACTERS:
            why = f"{vendor} takes {MAX_SHOT_CHARACTERS} characters in a shot"
            raise Unsupported(f"input/shots/{index}/prompt", why)
    if shots and all("duration" in shot for shot in shots):
        total = sum(shot["duration"] for shot in shots)
        if total != given.get("duration", total):
            why = f"the shots last {total} s together, the duration is {given['duration']} s"
            raise Unsupported("input/shots", f"{vendor}: {why}")


# -- legacy

_WATERMARK: Fields = {"watermark": "watermark_info.enabled"}
_CLIP: Fields = {"duration": FieldTarget("duration", seconds_text), "mode": "mode"}
_PROMPTS: Fields = {"prompt": "prompt", "negative_prompt": "negative_prompt"}
_RATIO: Fields = {"aspect_ratio": "aspect_ratio"}
_SOUND: Fields = {"generate_audio": FieldTarget("sound", choice("on", "off"))}
_CONTROLS: Fields = {"cfg_scale": "cfg_scale", "camera_control": "camera_control", **_WATERMARK}
_FIRST_AND_LAST: Fields = {"image_url": "image", "last_image_url": "image_tail"}
_MASKS: Fields = {"static_mask": "static_mask", "dynamic_masks": "dynamic_masks"}
_MOTION: Fields = {
    "image_url": "image_url",
    "video_url": "video_url",
    "prompt": "prompt",
    "keep_original_sound": FieldTarget("keep_original_sound", _YES_NO),
    "character_orientation": "character_orientation",
    "mode": "mode",
    **_WATERMARK,
}


def _images(urls: Sequence[str]) -> Items:
    return [{"image": url} for url in urls]


def _omni_images(urls: Sequence[str]) -> Items:
    return [{"image_url": url} for url in urls]


def _omni_frame(kind: str) -> FieldTarget:
    return FieldTarget("image_list[]", lambda url: [{"image_url": url, "type": kind}])


def _omni_videos(videos: Sequence[Item]) -> Items:
    key = "keep_original_sound"
    return [{**video, key: _YES_NO(video[key])} if key in video else {**video} for video in videos]


def _multi_shot(seconds: Callable[[float], Any]) -> Callable[[Sequence[Item]], dict[str, Any]]:
    def encode(shots: Sequence[Item]) -> dict[str, Any]:
        prompts: Items = [{"index": index, **shot} for index, shot in enumerate(shots, 1)]
        for prompt in prompts:
            if "duration" in prompt:
                prompt["duration"] = seconds(prompt["duration"])
        return {"multi_shot": True, "shot_type": "customize", "multi_prompt": prompts}

    return encode


def _omni(shot_seconds: Callable[[float], Any]) -> Fields:
    return {
        "prompt": "prompt",
        "image_url": _omni_frame("first_frame"),
        "last_image_url": _omni_frame("end_frame"),
        "image_urls": FieldTarget("image_list[]", _omni_images),
        "videos": FieldTarget("video_list[]", _omni_videos),
        "elements": "element_list",
        "shots": FieldTarget("", _multi_shot(shot_seconds)),
        # After the shots, whose type it replaces.
        "shot_type": FieldTarget("", lambda kind: {"multi_shot": True, "shot_type": kind}),
        **_RATIO,
        **_CLIP,
        **_SOUND,
        **_WATERMARK,
    }


def legacy_forms(shot_seconds: Callable[[float], Any]) -> Forms:
    """Return the legacy mappings; their paths are endpoints.

    `shot_seconds` encodes the duration of one shot.
    """
    return {
        Capability.TEXT2VIDEO: RequestMapping(
            "text2video",
            {**_PROMPTS, **_CLIP, **_SOUND, **_RATIO, **_CONTROLS},
            required=("prompt",),
        ),
        Capability.IMAGE2VIDEO: RequestMapping(
            "image2video",
            {**_FIRST_AND_LAST, **_PROMPTS, **_CLIP, **_SOUND, **_CONTROLS, **_MASKS},
            required=("image_url",),
        ),
        Capability.MULTI_IMAGE2VIDEO: RequestMapping(
            "multi-image2video",
            {
                "image_urls": FieldTarget("image_list[]", _images),
                **_PROMPTS,
                **_RATIO,
                **_CLIP,
                **_WATERMARK,
            },
            required=("image_urls", "prompt"),
        ),
        Capability.MOTION_CONTROL: RequestMapping(
            "motion-control", _MOTION, required=("image_url", "video_url")
        ),
        Capability.OMNI_VIDEO: RequestMapping(
            "omni-video", _omni(shot_seconds), required=("prompt|shots",)
        ),
    }


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


def _dynamic_masks(masks: Sequence[Item]) -> Sequence[Item]:
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
    "dynamic_masks": FieldTarget("dynamic_masks", _dynamic_masks),
}
_ONE_GUIDE = ("last_image_url", "static_mask|dynamic_masks", "camera_control")


def strict(forms: Forms) -> Forms:
    """Return legacy mappings that refuse what Kling itself refuses.

    These are texts, shots, cameras and masks out of bounds, and two guides in one request.
    """
    return {
        capability: replace(
            mapping,
            fields={name: _STRICT.get(name, target) for name, target in mapping.fields.items()},
            exclusive=(_ONE_GUIDE,),
            check=check_shots,
        )
        for capability, mapping in forms.items()
    }


# -- new

NEW_SETTINGS: Fields = {
    "resolution": "settings.resolution",
    "duration": FieldTarget("settings.duration", whole_seconds),
}
NEW_RATIO: Fields = {"aspect_ratio": "settings.aspect_ratio"}
NEW_AUDIO: Fields = {"generate_audio": FieldTarget("settings.audio", choice("native", "off"))}
_NEW_WATERMARK: Fields = {"watermark": "options.watermark_info.enabled"}
_new_prompt = at_most(3072)


def shots_text(shots: Sequence[Item]) -> str:
    """Return shots in the prompt's syntax: `Shot n, m, words;`, n counted from 1, m in seconds."""
    if any(";" in shot["prompt"] for shot in shots):
        raise ValueError("cannot carry a semicolon in a prompt: it ends the shot")
    if not all("duration" in shot for shot in shots):
        raise ValueError("need a duration each")
    return _new_prompt(
        " ".join(
            f"Shot {n}, {whole_seconds(shot['duration'])}, {shot['prompt']};"
            for n, shot in enumerate(shots, 1)
        )
    )


def _prompt_item(prompt: str) -> Items:
    return [{"type": "prompt", "text": _new_prompt(prompt)}]


def frame(kind: str) -> FieldTarget:
    """Return the target of one image in `contents`."""
    return FieldTarget("contents[]", lambda url: [{"type": kind, "url": url}])


_NEW_PROMPT: Fields = {
    "prompt": FieldTarget("prompt", _new_prompt),
    "shots": FieldTarget("prompt", shots_text),
}
NEW_PROMPT_ITEM: Fields = {
    "prompt": FieldTarget("contents[]", _prompt_item),
    "shots": FieldTarget("contents[]", lambda shots: _prompt_item(shots_text(shots))),
}


def new_forms(text: Fields, image: Fields) -> dict[Capability, RequestMapping]:
    """Return the new mappings of a text and of an image to a video, with fields between the two.

    `text` has none for the prompt, `image` has all but the watermark.
    """
    both = (("shots", "prompt"),)
    return {
        Capability.TEXT2VIDEO: RequestMapping(
            "text-to-video",
            {**_NEW_PROMPT, **text, **_NEW_WATERMARK},
            required=("prompt|shots",),
            exclusive=both,
            check=check_shots,
        ),
        Capability.IMAGE2VIDEO: RequestMapping(
            "image-to-video",
            {**image, **_NEW_WATERMARK},
            required=("image_url",),
            exclusive=both,
            check=check_shots,
        ),
    }


def _video_item(video: Item) -> dict[str, Any]:
    if "keep_original_sound" in video:
        raise ValueError("have no sound of their own here: use input/keep_original_sound")
    kind = "base_video" if video.get("refer_type") == "base" else "feature_video"
    return {"type": kind, "url": video["video_url"]}


def _number_items(body: dict[str, Any]) -> None:
    """Give the media the ids by which a prompt refers to them: `@image_1`, `@video_1`, `@e1`."""
    counts: dict[str, int] = {}
    for item in body.get("contents", ()):
        kind = item["type"]
        if kind != "prompt":
            stem = "e" if kind == "element" else "video_" if kind.endswith("video") else "image_"
            counts[stem] = counts.get(stem, 0) + 1
            item["id"] = f"{stem}{counts[stem]}"


NEW_OMNI = RequestMapping(
    "omni-video",
    {
        "prompt": NEW_PROMPT_ITEM["prompt"],
        "image_url": frame("first_frame"),
        "last_image_url": frame("last_frame"),
        "image_urls": FieldTarget(
            "contents[]", lambda urls: [{"type": "refer_image", "url": url} for url in urls]
        ),
        "videos": FieldTarget("contents[]", lambda videos: list(map(_video_item, videos))),
        "elements": FieldTarget(
            "contents[]", lambda elements: [{"type": "element", **element} for element in elements]
        ),
        "keep_original_sound": FieldTarget("settings.audio", choice("original", "off")),
        **NEW_AUDIO,
        **NEW_SETTINGS,
        **NEW_RATIO,
        **_NEW_WATERMARK,
    },
    required=("prompt",),
    exclusive=(("keep_original_sound", "generate_audio"),),
    finish=_number_items,
)
