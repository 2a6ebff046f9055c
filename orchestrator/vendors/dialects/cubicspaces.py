"""cubicspaces: by its shape a deployment of new-api, with a unified and a Kling-legacy route.

Pushes come from Kling itself with Kling's task id, and the gateway may run one order on several
channels. It cannot be asked by external id. new-api: https://github.com/QuantumNous/new-api
"""

from __future__ import annotations

from typing import Any, ClassVar

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Models, Options, Vendor
from orchestrator.vendors.field_mapping import (
    Fields,
    FieldTarget,
    RequestMapping,
    seconds_text,
    whole_seconds,
)

# https://doc.cubicspaces.cloud/api/video/kling.html
# In the order of its examples.
_PARAMETERS = (
    "aspect_ratio", "negative_prompt", "cfg_scale", "camera_control", "static_mask",
    "dynamic_masks",
)  # fmt: skip


def _forms(text: str, image: str, basics: Fields, below: str) -> dict[Capability, RequestMapping]:
    """Return the mappings of a route, whose paths are `text` and `image`.

    Kling's parameters are `below` a path.
    """
    prompt, frame = {"prompt": "prompt"}, {"image_url": "image"}
    tail = {"last_image_url": f"{below}image_tail"}
    parameters = {name: f"{below}{name}" for name in _PARAMETERS}
    return {
        Capability.TEXT2VIDEO: RequestMapping(
            text, {**prompt, **basics, **parameters}, required=("prompt",)
        ),
        Capability.IMAGE2VIDEO: RequestMapping(
            image,
            {**prompt, **frame, **basics, **tail, **parameters},
            required=("image_url", "prompt"),
        ),
    }


_UNIFIED: Fields = {
    "mode": "mode",
    "duration": FieldTarget("duration", whole_seconds),
    "size": "size",
}
UNIFIED = _forms("/v1/video/generations", "/v1/video/generations", _UNIFIED, "metadata.")
# The whole body becomes Kling's parameters. Their duration is a string: a number is refused.
_KLING: Fields = {"mode": "mode", "duration": FieldTarget("duration", seconds_text)}
KLING = _forms("/kling/v1/videos/text2video", "/kling/v1/videos/image2video", _KLING, "")
MODELS: Models = dict.fromkeys(UNIFIED, ("kling-v3",))


class Cubicspaces(Vendor):
    """One of two routes, which differ in the body."""

    name = "cubicspaces"
    default_base_url = "https://cubicspaces.cloud"
    options: ClassVar[Options] = {"route": ("unified", "kling")}
    models = MODELS
    content_path = "/v1/videos/{task_id}/content"
    runs_several_tasks = True

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__(account, clock)
        unified = account.options.get("route", "unified") == "unified"
        self.forms = UNIFIED if unified else KLING
        if unified:
            self.callback_path = "metadata.callback_url"
            self.external_id_path = "metadata.external_task_id"
        else:
            self.model_path = "model_name"

    def unknown_task(self, status: int, body: Any) -> bool:
        """Return whether new-api does not know the task: it says so, or succeeds with nothing."""
        if status == 200 and isinstance(body, dict) and body.get("code") == "success":
            return body.get("data") is None
        return super().unknown_task(status, body)
