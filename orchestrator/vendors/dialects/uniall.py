"""UniAll: its own request format with `extra_body`, and status queries as for an OpenAI video.

Quality and sound are part of the model's name. No callback is documented, so by default jobs are
only polled; the option `callback = "extra_body"` sends one in `extra_body`, like similar fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Models, Options, Vendor
from orchestrator.vendors.field_mapping import Fields, FieldTarget, RequestMapping, whole_seconds


def _shots(shots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if any("duration" in shot for shot in shots):
        raise ValueError("have no duration of their own here")
    prompts = [{"prompt": shot["prompt"]} for shot in shots]
    return {"extra_body": {"multi_prompt": prompts, "shot_type": "customize"}}


# https://docs.uniall.ai/models/video/kling
_PATH = "/v1/video/generations"
_FIELDS: Fields = {
    "aspect_ratio": "aspect_ratio",
    "duration": FieldTarget("duration", whole_seconds),
    "cfg_scale": "extra_body.cfg_scale",
    "shots": FieldTarget("", _shots),
    "shot_type": "extra_body.shot_type",
    "negative_prompt": "extra_body.negative_prompt",
    "elements": "extra_body.element_list",
}
_PROMPT = {"prompt": "prompt"}
_IMAGES = {"image_url": "image", "last_image_url": "last_image"}
FORMS = {
    Capability.TEXT2VIDEO: RequestMapping(_PATH, {**_PROMPT, **_FIELDS}, required=("prompt",)),
    Capability.IMAGE2VIDEO: RequestMapping(
        _PATH,
        {**_PROMPT, **_IMAGES, **_FIELDS},
        required=("image_url", "prompt|shots"),
        exclusive=(("shots", "prompt"),),
    ),
}
# Quality and sound are part of the name.
MODELS: Models = dict.fromkeys(
    FORMS,
    ("kling-v3-std-silent", "kling-v3-std-audio", "kling-v3-pro-silent", "kling-v3-pro-audio"),
)


class UniAll(Vendor):
    """`POST /v1/video/generations`; the path of status queries is an option: the pages name two."""

    name = "uniall"
    forms = FORMS
    models = MODELS
    content_path = "/v1/videos/{task_id}/content"
    options: ClassVar[Options] = {"callback": ("none", "extra_body"), "query_path": None}

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__(account, clock)
        sends = account.options.get("callback") == "extra_body"
        self.callback_path = "extra_body.callback_url" if sends else ""
        self.external_id_path = "extra_body.external_task_id" if sends else ""
        self.query_path = account.options.get("query_path", "/v1/videos/{task_id}")
        if not self.query_path.startswith("/") or "{task_id}" not in self.query_path:
            where = f"accounts.{account.name}.options.query_path"
            raise ConfigError(
                f"{where} must start with / and hold {{task_id}}, not {self.query_path!r}"
            )
