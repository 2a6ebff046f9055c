"""The contract every vendor's forms keep: what has a place is sent, what has none is refused by name."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchestrator.foundation.errors import Unsupported
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Lookup, Vendor
from orchestrator.vendors.order import Input, Order
from tests.harness.vendor_samples import FOLDERS, order, vendor

PICTURE, CLIP = "https://example.com/a.png", "https://example.com/a.mp4"
#: One ordinary value for each word of `input`.
ORDINARY: dict[str, Any] = {
    "prompt": "a boat",
    "negative_prompt": "blur",
    "image_url": PICTURE,
    "last_image_url": PICTURE,
    "image_urls": [PICTURE],
    "video_url": CLIP,
    "audio_url": "https://example.com/a.mp3",
    "duration": 5,
    "resolution": "720p",
    "aspect_ratio": "16:9",
    "size": "1920x1080",
    "mode": "std",
    "cfg_scale": 0.5,
    "generate_audio": True,
    "keep_original_sound": True,
    "fixed_lens": True,
    "watermark": True,
    "static_mask": PICTURE,
    "dynamic_masks": [{"mask": PICTURE, "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}],
    "camera_control": {"type": "simple", "config": {"zoom": 1}},
    "character_orientation": "image",
    "shot_type": "customize",
    "shots": [{"prompt": "a"}],
    "videos": [{"video_url": CLIP}],
    "elements": [{"element_id": "1"}],
}
EVERY_FORM = [
    (folder, capability) for folder in FOLDERS for capability in sorted(vendor(folder).capabilities)
]


def minimal(who: Vendor, capability: Capability, **more: Any) -> Order:
    needs = {
        either.split("|")[0]: ORDINARY[either.split("|")[0]]
        for either in who.forms[capability].required
    }
    return order(
        capability, {**needs, **more}, vendor_task_id="task-1", callback_url="https://us.example/cb"
    )


@pytest.mark.parametrize(("folder", "capability"), EVERY_FORM)
def test_every_capability_can_be_asked_for_and_about(folder: str, capability: Capability) -> None:
    who = vendor(folder)
    wanted = minimal(who, capability)
    who.check(wanted)
    for request in (who.submission(wanted), who.inquiry([wanted])):
        assert isinstance(request, httpx.Request)
        assert str(request.url).startswith(who.base_url + "/")
    if who.lookup is Lookup.BY_EXTERNAL_ID:
        assert "job-1" in str(who.lookup_request(wanted).url)
    else:
        with pytest.raises(Unsupported):
            who.lookup_request(wanted)


@pytest.mark.parametrize(("folder", "capability"), EVERY_FORM)
def test_a_field_that_has_no_place_is_refused_with_its_pointer(
    folder: str, capability: Capability
) -> None:
    who = vendor(folder)
    foreign = set(Input.model_fields) - {"extra"} - set(who.forms[capability].fields)
    assert foreign
    for name in foreign:
        with pytest.raises(Unsupported) as caught:
            who.check(minimal(who, capability, **{name: ORDINARY[name]}))
        assert caught.value.faults[0].pointer == f"/input/{name}"
        assert who.name in caught.value.why


@pytest.mark.parametrize(("folder", "capability"), EVERY_FORM)
def test_no_field_that_has_a_place_is_dropped(folder: str, capability: Capability) -> None:
    """Every field the form has changes the body: nothing is accepted and then forgotten."""
    who = vendor(folder)
    needed = {name for either in who.forms[capability].required for name in either.split("|")}
    bare = who.body(minimal(who, capability))
    for name in set(who.forms[capability].fields) - needed:
        extra = (
            {"shots": [{"prompt": "a", "duration": 5}]}
            if name == "shots" and folder != "uniall"
            else {}
        )
        more = {name: ORDINARY[name], **extra}
        assert who.body(minimal(who, capability, **more)) != bare, name


@pytest.mark.parametrize(("folder", "capability"), EVERY_FORM)
def test_what_a_capability_needs_is_missed_with_its_pointer(
    folder: str, capability: Capability
) -> None:
    who = vendor(folder)
    whole = minimal(who, capability)
    for either in who.forms[capability].required:
        missing = either.split("|")[0]
        less = {name: value for name, value in whole.given.items() if name != missing}
        with pytest.raises(Unsupported) as caught:
            who.check(order(capability, less))
        assert caught.value.field == f"input/{missing}"
