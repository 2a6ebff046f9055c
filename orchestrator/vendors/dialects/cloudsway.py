"""Cloudsway MaaS: Kling's new standard behind a path per account; the model is in the URL."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.accounts import Account
from orchestrator.vendors.contract import Lookup, Models, Options, Vendor, segment
from orchestrator.vendors.kling_standard import (
    NEW_PROMPT_ITEM,
    NEW_RATIO,
    NEW_SETTINGS,
    frame,
    new_forms,
)

# https://docs.cloudsway.net/maasapi/api-reference/video/kl_3.0_turbo/
FORMS = new_forms(
    {"resolution": "settings.resolution", **NEW_RATIO, **NEW_SETTINGS},
    {"image_url": frame("first_frame"), **NEW_PROMPT_ITEM, **NEW_SETTINGS},
)
MODELS: Models = dict.fromkeys(FORMS, ("kling-3.0-turbo",))


class Cloudsway(Vendor):
    """Paths below `/v1/ai/{endpoint_path}/kling`. An answer leaves out unknown tasks."""

    name = "cloudsway"
    default_base_url = "https://genaiapi-m2.cloudsway.net"
    forms = FORMS
    models = MODELS
    options: ClassVar[Options] = {"endpoint_path": None}
    model_path = ""
    callback_path = "options.callback_url"
    external_id_path = "options.external_task_id"
    batch = 20
    lookup = Lookup.BY_EXTERNAL_ID
    push_id_is_ours = True

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__(account, clock)
        endpoint = account.options.get("endpoint_path", "").strip("/")
        if "/v1/ai/" in self.base_url:
            root = "/kling"
        elif endpoint:
            root = f"/v1/ai/{segment(endpoint)}/kling"
        else:
            where = f"accounts.{account.name}.options.endpoint_path"
            raise ConfigError(
                f"{where} is required: the part of the URL that Cloudsway gave the account"
            )
        self.submit_path = f"{root}/videos/{{path}}/{{model}}"
        self.query_path = f"{root}/tasks?task_ids={{task_id}}"
        # It may not carry `task_ids`, not even empty.
        self.lookup_path = f"{root}/tasks?external_task_ids={{external_task_id}}"
