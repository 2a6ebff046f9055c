"""Credentials of the simulated vendors, and the settings (`[accounts.*]`) of accounts that fit them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Final

from orchestrator.simulator.dialect import Keys
from orchestrator.simulator.dialect_cloudsway import ENDPOINT_PATH
from orchestrator.simulator.shapes import JsonObject


def made_up(name: str) -> str:
    """A value that looks like a secret, guards nothing, and is the same in every process."""
    return hashlib.sha256(f"simulated {name}".encode()).hexdigest()


def webhook_secret(name: str) -> str:
    return "whsec_" + b64encode(bytes.fromhex(made_up(name))).decode()


def kling_keys(mount: str) -> Keys:
    return Keys(
        api_key=f"sim-{mount}-{made_up(mount)[:16]}",
        access_key=made_up(f"{mount} access")[:32],
        secret_key=made_up(f"{mount} secret"),
        webhook_secrets=(webhook_secret(f"{mount} webhook"),),
    )


GATEWAYS: Final = ("dreamto", "uniall", "cubicspaces", "cloudsway", "agentsflare")
KEYS: Final = {
    **{mount: Keys(f"sim-{mount}-{made_up(mount)[:16]}") for mount in GATEWAYS},
    **{mount: kling_keys(mount) for mount in ("kling", "kling_v2")},
}


def bearer(vendor: str, options: JsonObject | None = None) -> JsonObject:
    """An account with an API key; `base_url` is relative to the simulator's."""
    settings: JsonObject = {
        "vendor": vendor,
        "base_url": f"/{vendor}",
        "api_key": KEYS[vendor].api_key,
    }
    return {**settings, "options": options} if options else settings


def signed(mount: str, standard: str, credentials: JsonObject) -> JsonObject:
    """A Kling account, whose pushes are signed."""
    return {
        "vendor": "kling",
        "base_url": f"/{mount}",
        **credentials,
        "signature": "required",
        "webhook_secrets": [*KEYS[mount].webhook_secrets],
        "options": {"standard": standard},
    }


SIMULATED: Final[tuple[tuple[str, JsonObject], ...]] = (
    ("dreamto", bearer("dreamto")),
    ("uniall", bearer("uniall")),
    ("cubicspaces", bearer("cubicspaces", {"route": "unified"})),
    ("cubicspaces_kling", bearer("cubicspaces", {"route": "kling"})),
    ("cloudsway", bearer("cloudsway", {"endpoint_path": ENDPOINT_PATH})),
    ("agentsflare", bearer("agentsflare")),
    (
        "kling",
        signed(
            "kling",
            "legacy",
            {"access_key": KEYS["kling"].access_key, "secret_key": KEYS["kling"].secret_key},
        ),
    ),
    ("kling_new", signed("kling_v2", "new", {"api_key": KEYS["kling_v2"].api_key})),
)


def account_settings(world_url: str, account: str) -> JsonObject:
    """The settings of one simulated account, for the simulator at `world_url`. Raises KeyError for an unknown one."""
    settings = dict(SIMULATED)[account]
    return {**settings, "base_url": f"{world_url.rstrip('/')}{settings['base_url']}"}
