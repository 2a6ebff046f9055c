"""The peculiarities of single dialects: limits, encodings, field paths."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.foundation.errors import Unsupported
from tests.harness.vendor_samples import order, vendor

A, B = "https://example.com/a.png", "https://example.com/b.png"
FRAMES = {"prompt": "a boat", "image_url": A}
CALLBACK = "https://us.example/callbacks/main/token"


def body(folder: str, capability: str, given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    bound = vendor(folder, **changes)
    wanted = order(capability, given, callback_url=CALLBACK)
    bound.check(wanted)
    posted: dict[str, Any] = json.loads(bound.submit_request(wanted).content)
    return posted


def refusal(folder: str, capability: str, given: dict[str, Any], **changes: Any) -> Unsupported:
    with pytest.raises(Unsupported) as caught:
        vendor(folder, **changes).check(order(capability, given))
    return caught.value


@pytest.mark.parametrize(
    "folder", ["uniall", "cubicspaces", "cloudsway", "agentsflare", "kling", "kling_v2"]
)
def test_dialects_with_whole_seconds_refuse_fractions(folder: str) -> None:
    given = {"prompt": "a boat", "duration": 5.5}
    assert refusal(folder, "text2video", given).field == "input/duration"


def test_dreamto_takes_fractions_of_a_second() -> None:
    posted = body("dreamto", "text2video", {"prompt": "a boat", "duration": 5.5})
    assert posted["input"]["duration"] == 5.5


def camera(kind: str | None = None, **config: float) -> dict[str, Any]:
    fields = {"type": kind, "config": config}
    return {"camera_control": {name: value for name, value in fields.items() if value}}


def masks(count: int, points: int) -> dict[str, Any]:
    return {"dynamic_masks": count * [{"mask": A, "trajectories": points * [{"x": 1, "y": 1}]}]}


@pytest.mark.parametrize(
    ("folder", "given", "pointer"),
    [
        ("kling", camera("simple", pan=1, zoom=1), "camera_control"),
        ("kling", camera("simple", pan=0), "camera_control"),
        ("kling", camera(warp=1), "camera_control"),
        ("kling", camera("down_back", pan=1), "camera_control"),
        ("kling", {"last_image_url": B, "static_mask": A}, "static_mask"),
        ("kling", {"last_image_url": B, **camera("down_back")}, "camera_control"),
        ("kling", masks(1, points=1), "dynamic_masks"),
        ("kling", masks(7, points=2), "dynamic_masks"),
        ("kling", {"prompt": "x" * 2501}, "prompt"),
        ("cloudsway", {"prompt": "x" * 3073}, "prompt"),
        ("cloudsway", {"aspect_ratio": "16:9"}, "aspect_ratio"),
        ("cloudsway", {"shots": [{"prompt": "a", "duration": 1}]}, "prompt"),
        ("uniall", {"shots": [{"prompt": "a"}]}, "prompt"),
    ],
)
def test_combinations_that_a_dialect_forbids_are_refused(
    folder: str, given: dict[str, Any], pointer: str
) -> None:
    assert refusal(folder, "image2video", FRAMES | given).field == f"input/{pointer}"


def test_uniall_refuses_the_duration_of_a_shot() -> None:
    given = {"image_url": A, "shots": [{"prompt": "a", "duration": 2}]}
    assert refusal("uniall", "image2video", given).field == "input/shots"


def test_gateways_do_not_enforce_klings_own_limits() -> None:
    given = {**FRAMES, **camera("simple", pan=1, zoom=1), "static_mask": A}
    assert body("agentsflare", "image2video", given)["camera_control"] == given["camera_control"]


def test_static_and_dynamic_masks_may_be_combined() -> None:
    masks = [{"mask": B, "trajectories": [{"x": 1, "y": 1}, {"x": 2, "y": 2}]}]
    posted = body("kling", "image2video", {**FRAMES, "static_mask": A, "dynamic_masks": masks})
    assert (posted["static_mask"], posted["dynamic_masks"]) == (A, masks)


SHOTS = [{"prompt": "a city", "duration": 2}, {"prompt": "a balcony", "duration": 3}]


@pytest.mark.parametrize(("folder", "durations"), [("agentsflare", [2, 3]), ("kling", ["2", "3"])])
def test_shots_are_numbered_and_encoded_for_the_dialect(folder: str, durations: list[Any]) -> None:
    posted = body(folder, "omni_video", {"shots": SHOTS, "duration": 5})
    assert (posted["multi_shot"], posted["shot_type"]) == (True, "customize")
    assert posted["multi_prompt"] == [
        {"index": 1, "prompt": "a city", "duration": durations[0]},
        {"index": 2, "prompt": "a balcony", "duration": durations[1]},
    ]


@pytest.mark.parametrize("folder", ["cloudsway", "kling_v2"])
def test_the_new_standard_writes_shots_into_the_prompt(folder: str) -> None:
    words = "Shot 1, 2, a city; Shot 2, 3, a balcony;"
    assert body(folder, "text2video", {"shots": SHOTS, "duration": 5})["prompt"] == words
    contents = body(folder, "image2video", {"image_url": A, "shots": SHOTS})["contents"]
    assert {"type": "prompt", "text": words} in contents


@pytest.mark.parametrize(
    ("shots", "pointer"),
    [
        (7 * [{"prompt": "a", "duration": 1}], "input/shots"),
        ([{"prompt": "a" * 513, "duration": 5}], "input/shots/0/prompt"),
        ([{"prompt": "a", "duration": 4}], "input/shots"),
        ([{"prompt": "a", "duration": 2.5}, {"prompt": "b", "duration": 2.5}], "input/shots"),
    ],
    ids=["too many", "too long", "not the whole", "fractions"],
)
@pytest.mark.parametrize(
    ("folder", "capability"), [("cloudsway", "text2video"), ("kling", "omni_video")]
)
def test_shots_beyond_the_limits_are_refused(
    folder: str, capability: str, shots: Any, pointer: str
) -> None:
    assert refusal(folder, capability, {"shots": shots, "duration": 5}).field == pointer


@pytest.mark.parametrize(
    "shot", [{"prompt": "a; b", "duration": 5}, {"prompt": "a"}], ids=["semicolon", "no duration"]
)
def test_a_shot_that_the_prompt_syntax_cannot_hold_is_refused(shot: dict[str, Any]) -> None:
    assert refusal("cloudsway", "text2video", {"shots": [shot]}).field == "input/shots"


def test_omni_images_name_their_frame() -> None:
    given = {"prompt": "a", "image_url": A, "last_image_url": B, "image_urls": [A]}
    posted = body("kling", "omni_video", {**given, "elements": [{"element_id": "7"}]})
    frames = [
        {"image_url": A, "type": "first_frame"},
        {"image_url": B, "type": "end_frame"},
        {"image_url": A},
    ]
    assert (posted["image_list"], posted["element_list"]) == (frames, [{"element_id": "7"}])


def test_the_new_standard_takes_a_base_video_and_original_sound() -> None:
    videos = [{"video_url": B, "refer_type": "base"}]
    given = {"prompt": "a", "videos": videos, "keep_original_sound": True}
    posted = body("kling_v2", "omni_video", given)
    assert {"type": "base_video", "url": B, "id": "video_1"} in posted["contents"]
    assert posted["settings"] == {"audio": "original"}
    error = refusal("kling_v2", "omni_video", {**given, "generate_audio": True})
    assert error.field == "input/generate_audio"


@pytest.mark.parametrize(
    ("folder", "changes", "parents"),
    [
        ("dreamto", {}, ("input", "input")),
        ("uniall", {}, (None, None)),
        ("uniall", {"options": {"callback": "extra_body"}}, ("extra_body", "extra_body")),
        ("cubicspaces", {}, ("metadata", "metadata")),
        ("cubicspaces", {"options": {"route": "kling"}}, ("", "")),
        ("cloudsway", {}, ("options", "options")),
        ("agentsflare", {}, ("", "")),
        ("kling", {}, ("", "")),
        ("kling_v2", {}, ("options", "options")),
    ],
)
def test_the_callback_and_the_external_id_go_to_their_paths(
    folder: str, changes: Any, parents: Any
) -> None:
    posted = body(folder, "text2video", {"prompt": "a"}, **changes)
    fields = {"callback_url": CALLBACK, "external_task_id": "job-1"}
    for (field, value), parent in zip(fields.items(), parents, strict=True):
        if parent is None:
            assert field not in json.dumps(posted)
        else:
            assert (posted[parent] if parent else posted)[field] == value
    assert vendor(folder, **changes).pushes is (parents[0] is not None)


@pytest.mark.parametrize(
    "folder", ["dreamto", "uniall", "cubicspaces", "cloudsway", "agentsflare", "kling", "kling_v2"]
)
@pytest.mark.parametrize("field", ["callback_url", "external_task_id"])
def test_extra_may_not_set_the_callback_or_the_external_id(folder: str, field: str) -> None:
    parent = vendor(folder).callback_path.rpartition(".")[0] or "extra_body"
    for extra in ({field: "x"}, {parent: {field: "x"}}, {"deep": [{field: None}]}):
        assert refusal(folder, "text2video", {"prompt": "a", "extra": extra}).field == "input/extra"


@pytest.mark.parametrize(
    ("folder", "parent"),
    [("dreamto", "input"), ("cubicspaces", "metadata"), ("kling_v2", "options")],
)
def test_extra_may_not_replace_the_object_that_holds_them(folder: str, parent: str) -> None:
    replaced, merged = ({"prompt": "a", "extra": {parent: x}} for x in ("x", {"x": 5.0}))
    assert refusal(folder, "text2video", replaced).field == "input/extra"
    assert body(folder, "text2video", merged)[parent]["x"] == 5.0


@pytest.mark.parametrize(
    ("folder", "sound", "words"),
    [
        ("kling_v2", "settings", {"audio": "native"}),
        ("kling", "sound", "on"),
        ("agentsflare", "sound", "on"),
        ("dreamto", "input", True),
    ],
)
def test_sound_is_encoded_for_the_dialect(folder: str, sound: str, words: Any) -> None:
    posted = body(folder, "text2video", {"prompt": "a", "generate_audio": True})[sound]
    assert (posted["generate_audio"] if folder == "dreamto" else posted) == words


@pytest.mark.parametrize("folder", ["agentsflare", "kling"])
@pytest.mark.parametrize(
    "capability", ["text2video", "image2video", "motion_control", "omni_video"]
)
def test_legacy_takes_a_watermark_as_an_object(folder: str, capability: str) -> None:
    given = {"image_url": A, "video_url": B} if capability == "motion_control" else FRAMES
    given = {"prompt": "a"} if capability in ("text2video", "omni_video") else given
    posted = body(folder, capability, {**given, "watermark": True})
    assert posted["watermark_info"] == {"enabled": True}


def test_agentsflare_needs_a_prompt_with_an_image_and_kling_does_not() -> None:
    assert refusal("agentsflare", "image2video", {"image_url": A}).field == "input/prompt"
    assert body("kling", "image2video", {"image_url": A})["image"] == A
