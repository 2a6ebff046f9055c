"""The contract of every request mapping: known fields are sent, unknown ones refused by name."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchestrator.foundation.errors import Unsupported
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Lookup, Vendor
from orchestrator.vendors.order import Input, Order
from tests.harness.vendor_samples import FOLDERS, order, vendor

IMAGE, CLIP = "https://example.com/a.png", "https://example.com/a.mp4"
#: One ordinary value for each word of `input`.
ORDINARY: dict[str, Any] = {
    "prompt": "a boat",
    "negative_prompt": "blur",
    "image_url": IMAGE,
    "last_image_url": IMAGE,
    "image_urls": [IMAGE],
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
    "static_mask": IMAGE,
    "dynamic_masks": [{"mask": IMAGE, "trajectories": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}],
    "camera_control": {"type": "simple", "config": {"zoom": 1}},
    "character_orientation": "image",
    "shot_type": "customize",
    "shots": [{"prompt": "a"}],
    "videos": [{"video_url": CLIP}],
    "elements": [{"element_id": "1"}],
}
EVERY_MAPPING = [
    (folder, capability) for folder in FOLDERS for capability in sorted(vendor(folder).capabilities)
]


def minimal(bound: Vendor, capability: Capability, **more: Any) -> Order:
    needs = {
        either.split("|")[0]: ORDINARY[either.split("|")[0]]
        for either in bound.forms[capability].required
    }
    return order(
        capability, {**needs, **more}, vendor_task_id="task-1", callback_url="https://us.example/cb"
    )


@pytest.mark.parametrize(("folder", "capability"), EVERY_MAPPING)
def test_every_capability_can_be_submitted_and_queried(folder: str, capability: Capability) -> None:
    bound = vendor(folder)
    wanted = minimal(bound, capability)
    bound.check(wanted)
    for request in (bound.submit_request(wanted), bound.inquiry([wanted])):
        assert isinstance(request, httpx.Request)
        assert str(request.url).startswith(bound.base_url + "/")
    if bound.lookup is Lookup.BY_EXTERNAL_ID:
        assert "job-1" in str(bound.lookup_request(wanted).url)
    else:
        with pytest.raises(Unsupported):
            bound.lookup_request(wanted)


@pytest.mark.parametrize(("folder", "capability"), EVERY_MAPPING)
def test_an_unknown_field_is_refused_with_its_pointer(folder: str, capability: Capability) -> None:
    bound = vendor(folder)
    foreign = set(Input.model_fields) - {"extra"} - set(bound.forms[capability].fields)
    assert foreign
    for name in foreign:
        with pytest.raises(Unsupported) as caught:
            bound.check(minimal(bound, capability, **{name: ORDINARY[name]}))
        assert caught.value.faults[0].pointer == f"/input/{name}"
        assert bound.name in caught.value.why


@pytest.mark.parametrize(("folder", "capability"), EVERY_MAPPING)
def test_no_known_field_is_dropped(folder: str, capability: Capability) -> None:
    """Every field of the mapping changes the body."""
    bound = vendor(folder)
    needed = {name for either in bound.forms[capability].required for name in either.split("|")}
    values = ORDINARY
    if folder != "uniall":
        values = ORDINARY | {"shots": [{"prompt": "a", "duration": 5}]}
    bare = bound.body(minimal(bound, capability))
    for name in set(bound.forms[capability].fields) - needed:
        assert bound.body(minimal(bound, capability, **{name: values[name]})) != bare, name


@pytest.mark.parametrize(("folder", "capability"), EVERY_MAPPING)
def test_a_missing_field_is_refused_with_its_pointer(folder: str, capability: Capability) -> None:
    bound = vendor(folder)
    complete = minimal(bound, capability)
    for either in bound.forms[capability].required:
        missing = either.split("|")[0]
        given = {name: value for name, value in complete.given.items() if name != missing}
        with pytest.raises(Unsupported) as caught:
            bound.check(order(capability, given))
        assert caught.value.field == f"input/{missing}"
