"""dreamto.ai: its own job object around Kling's field names, everything under `input`.

The page prints an internal host name, so there is no default base URL. Neither a query by external
id nor the callback's body is documented: a push may be the job object, or Kling's own legacy body
with Kling's task id.
"""

from __future__ import annotations

from typing import IO

import httpx

from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Models, Vendor
from orchestrator.vendors.field_mapping import RequestMapping

# https://test.dreamto.ai/zh-CN/docs/models/kling-k3-0-std
# Of the status words, only `processing` is documented.
_INPUT = (
    "prompt", "image_url", "video_url", "audio_url", "duration", "resolution", "generate_audio",
    "fixed_lens", "negative_prompt", "aspect_ratio", "mode", "cfg_scale", "static_mask",
    "dynamic_masks", "camera_control",
)  # fmt: skip
_IMAGE = {name: f"input.{name}" for name in _INPUT}
_TEXT = {name: path for name, path in _IMAGE.items() if name != "image_url"}
FORMS = {
    Capability.TEXT2VIDEO: RequestMapping("/v1/jobs", _TEXT, required=("prompt",)),
    Capability.IMAGE2VIDEO: RequestMapping("/v1/jobs", _IMAGE, required=("image_url", "prompt")),
}
MODELS: Models = dict.fromkeys(FORMS, ("kling-k3.0-std", "kling-k2.5-turbo-std"))


class Dreamto(Vendor):
    """Takes files, too: `POST /v1/files/upload`."""

    name = "dreamto"
    forms = FORMS
    models = MODELS
    query_path = "/v1/jobs/{task_id}"
    callback_path = "input.callback_url"
    external_id_path = "input.external_task_id"

    def upload(self, kind: str, purpose: str, filename: str, content: IO[bytes]) -> httpx.Request:
        """Return a multipart upload; its answer is not documented."""
        return httpx.Request(
            "POST",
            f"{self.base_url}/v1/files/upload",
            headers=self.headers(),
            data={"kind": kind, "purpose": purpose},
            files={"file": (filename, content)},
        )
