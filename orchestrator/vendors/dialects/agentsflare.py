"""AgentsFlare: Kling's legacy standard behind a prefix, with the gateway's own task ids.

Pushes may carry Kling's id instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Lookup, Models, Options, Vendor
from orchestrator.vendors.kling_standard import legacy_forms

# https://docs.agentsflare.com/en/api-examples/kling
# Its page gives the seconds of a shot as a number, Kling's as a string. Its tables of common fields
# give every capability an aspect ratio.
_KLING = legacy_forms(lambda seconds: seconds)
_IMAGE = _KLING[Capability.IMAGE2VIDEO]
FORMS = {
    **_KLING,
    Capability.IMAGE2VIDEO: replace(
        _IMAGE,
        fields={**_IMAGE.fields, "aspect_ratio": "aspect_ratio"},
        required=("image_url", "prompt"),
    ),
}
_GENERAL = ("kling-v3", "kling-v2-5-turbo", "kling-v1-6")
MODELS: Models = {
    Capability.TEXT2VIDEO: _GENERAL,
    Capability.IMAGE2VIDEO: _GENERAL,
    Capability.MULTI_IMAGE2VIDEO: ("kling-v1-6",),
    Capability.MOTION_CONTROL: ("kling-v2-6",),
    Capability.OMNI_VIDEO: ("kling-video-o1", "kling-v3-omni"),
}


class AgentsFlare(Vendor):
    """Whether it takes an external id in place of a task id, as Kling does, is an option."""

    name = "agentsflare"
    default_base_url = "https://api.agentsflare.com"
    forms = FORMS
    models = MODELS
    options: ClassVar[Options] = {"lookup": ("none", "external_id")}
    model_path = "model_name"
    submit_path = "/klingai/v1/videos/{path}"
    query_path = f"{submit_path}/{{task_id}}"
    lookup_path = f"{submit_path}/{{external_task_id}}"

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__(account, clock)
        if account.options.get("lookup") == "external_id":
            self.lookup = Lookup.BY_EXTERNAL_ID
