"""Standard Webhooks signatures, made and verified.

Spec: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache

from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.errors import BadSignature, ConfigError, SignatureFault
from orchestrator.foundation.masking import WEBHOOK_PREFIX

#: Seconds.
TOLERANCE = 300
_SIGNATURES_CAP = 32


def new_secret() -> str:
    """Return a new signing secret: `whsec_` and 32 random bytes in Base64."""
    return WEBHOOK_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


@lru_cache(maxsize=4096)
def key_bytes(secret: str) -> bytes:
    """Return the bytes of a `whsec_` secret. Raises `ConfigError` if it is not Base64."""
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError("a signing secret must be whsec_ followed by Base64") from error
    if not key:
        raise ConfigError("a signing secret is empty")
    return key


@lru_cache(maxsize=4096)
def _keyed(secret: str) -> hmac.HMAC:
    """Return an HMAC to copy: `hmac.digest` would prepare the key again, and release the GIL."""
    return hmac.new(key_bytes(secret), digestmod="sha256")


def _mac(secret: str, signed: bytes) -> bytes:
    mac = _keyed(secret).copy()
    mac.update(signed)
    return mac.digest()


def sign(keys: Iterable[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three Standard Webhooks headers, with a signature for each key, newest first."""
    stamp = str(epoch_ms(at) // 1000)
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    signatures = " ".join("v1," + base64.b64encode(_mac(key, signed)).decode() for key in keys)
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signatures}


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: datetime) -> bool:
    """Verify Standard Webhooks headers (lower-case names).

    Returns True for a valid signature, False if none of the headers is there. Raises
    `BadSignature`, which names the failed check, if one is there and anything is wrong.
    """
    found = [headers.get(f"webhook-{part}") for part in ("id", "timestamp", "signature")]
    if not any(found):
        return False
    message_id, stamp, signatures = found
    if not (message_id and stamp and signatures):
        raise BadSignature(
            "webhook-id, webhook-timestamp and webhook-signature must come together",
            SignatureFault.UNSIGNED,
        )
    if "." in message_id or not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise BadSignature("webhook-id or webhook-timestamp is malformed")
    if abs(epoch_ms(now) / 1000 - int(stamp)) > TOLERANCE:
        raise BadSignature("webhook-timestamp is more than five minutes away", SignatureFault.STALE)
    signed = b".".join((message_id.encode("latin-1", "replace"), stamp.encode(), body))
    given = [_decoded(entry) for entry in signatures.split(" ")[:_SIGNATURES_CAP]]
    # Every pair is compared, so the time does not reveal which key or signature matched.
    macs = [_mac(key, signed) for key in keys]
    matches = [hmac.compare_digest(mac, signature) for mac in macs for signature in given]
    if not any(matches):
        raise BadSignature("no signature matches a configured secret")
    return True


def _decoded(entry: str) -> bytes:
    """Return the bytes of a `v1,<base64>` entry; b"", which matches no MAC, for any other."""
    version, _, value = entry.partition(",")
    try:
        return base64.b64decode(value, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""
