"""Credentials of the simulated vendors, and settings (`[accounts.*]`) of accounts that use them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Final

from orchestrator.simulator.authentication import Credentials
from orchestrator.simulator.dialects.cloudsway import ENDPOINT_PATH
from orchestrator.simulator.json_body import JSON, JsonObject


def fake_secret(name: str) -> str:
    """Return a value that looks like a secret, protects nothing, and is the same everywhere."""
    return hashlib.sha256(f"simulated {name}".encode()).hexdigest()


def api_key(mount: str) -> str:
    return f"sim-{mount}-{fake_secret(mount)[:16]}"


def webhook_secret(name: str) -> str:
    return "whsec_" + b64encode(bytes.fromhex(fake_secret(name))).decode()


def kling_credentials(mount: str) -> Credentials:
    return Credentials(
        api_key=api_key(mount),
        access_key=fake_secret(f"{mount} access")[:32],
        secret_key=fake_secret(f"{mount} secret"),
        webhook_secrets=(webhook_secret(f"{mount} webhook"),),
    )


GATEWAYS: Final = ("dreamto", "uniall", "cubicspaces", "cloudsway", "agentsflare")
CREDENTIALS: Final = {
    **{mount: Credentials(api_key(mount)) for mount in GATEWAYS},
    **{mount: kling_credentials(mount) for mount in ("kling", "kling_v2")},
}


def gateway_account(vendor: str, **options: JSON) -> JsonObject:
    """Return an account with an API key. Its `base_url` is relative to the simulator's."""
    settings: JsonObject = {
        "vendor": vendor,
        "base_url": f"/{vendor}",
        "api_key": CREDENTIALS[vendor].api_key,
    }
    return {**settings, "options": options} if options else settings


def kling_account(mount: str, standard: str, *credentials: str) -> JsonObject:
    """Return a Kling account, whose pushes are signed, with these of its credentials."""
    return {
        "vendor": "kling",
        "base_url": f"/{mount}",
        **{name: getattr(CREDENTIALS[mount], name) for name in credentials},
        "signature": "required",
        "webhook_secrets": [*CREDENTIALS[mount].webhook_secrets],
        "options": {"standard": standard},
    }


#: Name and settings of every simulated account.
SIMULATED: Final[tuple[tuple[str, JsonObject], ...]] = (
    ("dreamto", gateway_account("dreamto")),
    ("uniall", gateway_account("uniall")),
    ("cubicspaces", gateway_account("cubicspaces", route="unified")),
    ("cubicspaces_kling", gateway_account("cubicspaces", route="kling")),
    ("cloudsway", gateway_account("cloudsway", endpoint_path=ENDPOINT_PATH)),
    ("agentsflare", gateway_account("agentsflare")),
    ("kling", kling_account("kling", "legacy", "access_key", "secret_key")),
    ("kling_new", kling_account("kling_v2", "new", "api_key")),
)


def account_settings(simulator_url: str, account: str) -> JsonObject:
    """Return settings for the simulator at this URL. Raises `KeyError` for an unknown account."""
    settings = dict(SIMULATED)[account]
    return {**settings, "base_url": f"{simulator_url.rstrip('/')}{settings['base_url']}"}
