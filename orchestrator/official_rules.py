"""What Kling's own pages forbid, refused before anything is sent: what cannot succeed costs a turn all the same.

Gateways may be laxer, so only Kling's own forms are made strict.
Page: https://klingai.com/document-api (image to video, omni video)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.form import Place, at_most
from orchestrator.foundation.errors import Unsupported
from orchestrator.official import Forms, Item

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
        raise ValueError("of type 'simple' needs exactly one axis that is not zero, within -10 and 10")
    return camera


def _masks(masks: Sequence[Item]) -> Sequence[Item]:
    if len(masks) > 6:
        raise ValueError(f"takes 6 groups, not {len(masks)}")
    for points in (len(mask["trajectories"]) for mask in masks):
        if not 2 <= points <= 77:
            raise ValueError(f"takes trajectories of 2 to 77 points, not {points}")
    return masks


_STRICT: Mapping[str, Place] = {
    "prompt": Place("prompt", at_most(2500)),
    "negative_prompt": Place("negative_prompt", at_most(2500)),
    "camera_control": Place("camera_control", _camera),
    "dynamic_masks": Place("dynamic_masks", _masks),
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
            raise Unsupported(f"input/shots/{index}/prompt", f"{vendor} takes {_LONGEST_SHOT} characters in a shot")
    lengths = [shot["duration"] for shot in shots if "duration" in shot]
    if lengths and len(lengths) == len(shots) and sum(lengths) != given.get("duration", sum(lengths)):
        why = f"{vendor}: the shots last {sum(lengths)} s together, the duration is {given['duration']} s"
        raise Unsupported("input/shots", why)
