"""Kling itself. The account's option `standard` selects its legacy (default) or new standard."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.foundation.clock import Clock, epoch_ms
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.settings.accounts import Account
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Lookup, Models, Options, Vendor
from orchestrator.vendors.field_mapping import Fields, seconds_text
from orchestrator.vendors.kling_standard import (
    NEW_AUDIO,
    NEW_OMNI,
    NEW_PROMPT_ITEM,
    NEW_RATIO,
    NEW_SETTINGS,
    Forms,
    frame,
    legacy_forms,
    new_forms,
    strict,
)

# https://klingai.com/document-api
LEGACY = strict(legacy_forms(seconds_text))
_SETTINGS: Fields = {**NEW_SETTINGS, **NEW_AUDIO}
_FRAMES: Fields = {"image_url": frame("first_frame"), "last_image_url": frame("last_frame")}
NEW: Forms = {
    **new_forms({**NEW_RATIO, **_SETTINGS}, {**NEW_PROMPT_ITEM, **_FRAMES, **_SETTINGS}),
    Capability.OMNI_VIDEO: NEW_OMNI,
}
_MASTERS = ("kling-v2-1-master", "kling-v2-master", "kling-v1-6")
_GENERAL = ("kling-v3", "kling-v2-6", "kling-v2-5-turbo")
LEGACY_MODELS: Models = {
    Capability.TEXT2VIDEO: (*_GENERAL, *_MASTERS, "kling-v1"),
    Capability.IMAGE2VIDEO: (*_GENERAL, "kling-v2-1", *_MASTERS, "kling-v1-5", "kling-v1"),
    Capability.MULTI_IMAGE2VIDEO: ("kling-v1-6",),
    Capability.MOTION_CONTROL: ("kling-v3", "kling-v2-6"),
    Capability.OMNI_VIDEO: ("kling-v3-omni", "kling-video-o1"),
}
_NEW_GENERAL = ("kling-3.0-turbo", "kling-3.0", "kling-2.6", "kling-2.5-turbo")
NEW_MODELS: Models = {
    Capability.TEXT2VIDEO: _NEW_GENERAL,
    Capability.IMAGE2VIDEO: _NEW_GENERAL,
    Capability.OMNI_VIDEO: ("kling-3.0-omni", "kling-o1"),
}


class Kling(Vendor):
    """Its tables are those of the legacy standard, unless the account selects the new one."""

    name = "kling"
    default_base_url = "https://api-singapore.klingai.com"
    options: ClassVar[Options] = {"standard": ("legacy", "new")}
    forms = LEGACY
    models = LEGACY_MODELS
    model_path = "model_name"
    submit_path = "/v1/videos/{path}"
    query_path = "/v1/videos/{path}/{task_id}"
    lookup_path = "/v1/videos/{path}/{external_task_id}"
    lookup = Lookup.BY_EXTERNAL_ID
    push_id_is_ours = True

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__(account, clock)
        if self.is_new:
            self.forms, self.models = NEW, NEW_MODELS
            self.submit_path = "/{path}/{model}"
            self.query_path = "/tasks?task_ids={task_id}"
            self.lookup_path = "/tasks?external_task_ids={external_task_id}"
            self.model_path = ""
            self.callback_path = "options.callback_url"
            self.external_id_path = "options.external_task_id"
            self.batch = 20

    @property
    def is_new(self) -> bool:
        """True for the new standard."""
        return self.account.options.get("standard") == "new"

    def check_credentials(self) -> None:
        """Raise `ConfigError` without an API key; legacy takes an AccessKey and SecretKey too."""
        account, where = self.account, f"accounts.{self.account.name}"
        pair = (account.access_key, account.secret_key)
        if any(pair) and self.is_new:
            why = "the new standard refuses access_key and secret_key; give an api_key instead"
            raise ConfigError(f"{where}: {why}")
        if any(pair) and not all(pair):
            raise ConfigError(f"{where} needs both access_key and secret_key")
        if not any(pair) and not account.api_key:
            alternative = "" if self.is_new else ", or access_key and secret_key"
            raise ConfigError(f"{where}.api_key is required{alternative}")

    def headers(self) -> dict[str, str]:
        """Return the API key, or a JWT valid for half an hour (get-started/authentication)."""
        if self.account.api_key:
            return super().headers()
        # Here: with an API key the library, slow to import, is not needed.
        import jwt

        now = epoch_ms(self.clock.stamp()) // 1000
        key, secret = self.account.access_key, self.account.secret_key
        claims = {"iss": key.get_secret_value(), "exp": now + 1800, "nbf": now - 5}
        token = jwt.encode(claims, secret.get_secret_value(), algorithm="HS256")
        return {"authorization": f"Bearer {token}"}
