"""AgentsFlare: Kling's legacy standard behind a prefix, with the gateway's own task ids.

Pushes may carry Kling's id instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import httpx

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unsupported
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Lookup, Models, Options, Vendor, segment
from orchestrator.vendors.kling_standard import legacy_forms
from orchestrator.vendors.order import Order

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
    """`POST /klingai/v1/videos/{endpoint}`, `GET /klingai/v1/videos/{endpoint}/{id}`."""

    name = "agentsflare"
    default_base_url = "https://api.agentsflare.com"
    forms = FORMS
    models = MODELS
    options: ClassVar[Options] = {"lookup": ("none", "external_id")}
    model_path = "model_name"

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__(account, clock)
        if account.options.get("lookup") == "external_id":
            self.lookup = Lookup.BY_EXTERNAL_ID

    def path(self, order: Order) -> str:
        """Return the path of the endpoint."""
        return f"/klingai/v1/videos/{self.request_mapping(order).path}"

    def inquiry(self, orders: Sequence[Order]) -> httpx.Request:
        """Return the query for one task."""
        return self.get(f"{self.path(orders[0])}/{segment(orders[0].vendor_task_id or '')}")

    def lookup_request(self, order: Order) -> httpx.Request:
        """Return the query by external id, which Kling takes in place of the task id.

        Raises `Unsupported` unless `options.lookup` says that the gateway takes it too.
        """
        if self.lookup is not Lookup.BY_EXTERNAL_ID:
            raise Unsupported(
                "account", f"{self.name} is not known to find external ids; set options.lookup"
            )
        return self.get(f"{self.path(order)}/{segment(order.external_task_id)}")
