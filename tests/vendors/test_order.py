"""The caller's input, and the request mappings it is encoded with."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.foundation.errors import Unsupported
from orchestrator.vendors.field_mapping import (
    FieldTarget,
    RequestMapping,
    at_most,
    build_body,
    check_extra,
    check_fields,
    choice,
    seconds_text,
    whole_seconds,
)
from orchestrator.vendors.order import Input

MAPPING = RequestMapping(
    "/make",
    {
        "prompt": "text",
        "duration": FieldTarget("settings.seconds", whole_seconds),
        "image_url": FieldTarget("contents[]", lambda url: [{"image": url}]),
        "last_image_url": FieldTarget("contents[]", lambda url: [{"last": url}]),
        "shots": FieldTarget("", lambda shots: {"multi": True, "settings": {"shots": len(shots)}}),
    },
    required=("prompt|shots",),
    exclusive=(("shots", "prompt"),),
)


def given_of(**fields: Any) -> dict[str, Any]:
    return Input.model_validate_json(json.dumps(fields)).given()


def test_whole_numbers_lose_their_fraction_and_extra_stays_verbatim() -> None:
    given = given_of(
        duration=5.0,
        camera_control={"config": {"zoom": 2.0}},
        shots=[{"prompt": "a", "duration": 1.5}],
    )
    assert repr(given["duration"]) == "5"
    assert repr(given["camera_control"]) == "{'config': {'zoom': 2}}"
    assert given["shots"] == [{"prompt": "a", "duration": 1.5}]
    assert (
        repr(given_of(extra={"seed": 5.0, "none": None})["extra"]) == "{'seed': 5.0, 'none': None}"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"promt": "a"},
        {"prompt": ""},
        {"prompt": 5},
        {"duration": "5"},
        {"duration": 0},
        {"generate_audio": "yes"},
        {"image_urls": []},
        {"cfg_scale": 1.1},
        {"camera_control": {"config": {"zoom": 11}}},
        {"shots": [{"duration": 5}]},
        {"elements": [{"element_id": 5}]},
        {"videos": [{"video_url": "https://x.example/v", "refer_type": "other"}]},
        {"dynamic_masks": [{"mask": "m", "trajectories": [{"x": float("inf"), "y": 0}]}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_input_outside_the_vocabulary_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Input.model_validate_json(json.dumps(fields).replace("Infinity", "1e999"))


def test_every_field_goes_to_its_target_in_the_order_of_the_mapping() -> None:
    given = {"last_image_url": "b", "image_url": "a", "duration": 5, "prompt": "x"}
    contents = [{"image": "a"}, {"last": "b"}]
    body = build_body("acme", MAPPING, given)
    assert body == {"text": "x", "settings": {"seconds": 5}, "contents": contents}


def test_a_target_without_a_path_merges_into_the_body() -> None:
    body = build_body("acme", MAPPING, {"shots": [1, 2], "duration": 5})
    assert body == {"multi": True, "settings": {"seconds": 5, "shots": 2}}


def test_extra_is_merged_in_depth_and_the_order_is_not_modified() -> None:
    extra = {"settings": {"seed": 1}, "text": "y", "other": {"a": [1]}}
    given = {"prompt": "x", "duration": 5, "extra": extra}
    before = deepcopy(given)
    body = build_body("acme", MAPPING, given)
    assert body == {"text": "y", "settings": {"seconds": 5, "seed": 1}, "other": {"a": [1]}}
    body["other"]["a"].append(2)
    body["settings"]["seed"] = 2
    assert given == before


@pytest.mark.parametrize(
    ("given", "field", "why"),
    [
        ({"prompt": "x", "mode": "std"}, "mode", " has no field for 'mode' in this capability"),
        ({"prompt": "x", "duration": 1.5}, "duration", ": duration takes whole seconds, not 1.5"),
        ({"duration": 5}, "prompt", " needs prompt or shots for this capability"),
        ({"shots": [], "prompt": "x"}, "prompt", " cannot take prompt together with shots"),
    ],
)
def test_what_a_mapping_cannot_carry_is_refused_with_its_reason(
    given: dict[str, Any], field: str, why: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        check_fields("acme", MAPPING, given)
    assert (caught.value.field, caught.value.why) == (f"input/{field}", f"acme{why}")
    assert caught.value.faults[0].pointer == f"/input/{field}"


def test_encoders() -> None:
    assert (whole_seconds(5.0), seconds_text(5)) == (5, "5")
    assert (choice("on", "off")(False), at_most(2)("ab")) == ("off", "ab")
    for fraction in (whole_seconds, seconds_text):
        with pytest.raises(ValueError, match=r"takes whole seconds, not 0\.5"):
            fraction(0.5)
    with pytest.raises(ValueError, match="takes 2 characters, not 3"):
        at_most(2)("abc")


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    "extra", [{"x": float("inf")}, {"x": [float("nan")]}, nested(40)], ids=["inf", "nan", "deep"]
)
def test_extra_that_is_not_valid_json_is_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        check_extra("acme", extra, ("options.callback_url",))
    assert caught.value.field == "input/extra"


KEYS = st.sampled_from(("text", "settings", "contents")) | st.text(max_size=9)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


@settings(deadline=None, max_examples=60)
@given(extra=st.dictionaries(KEYS, JSON, max_size=4))
def test_an_extra_that_passes_can_be_merged_and_sent(extra: dict[str, Any]) -> None:
    try:
        check_extra("acme", extra, ("settings.callback_url",))
    except Unsupported:
        return
    body = build_body("acme", MAPPING, {"prompt": "x", "duration": 5, "extra": extra})
    assert json.dumps(body, allow_nan=False)
    assert all(key in body for key in extra)
