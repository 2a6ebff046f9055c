"""Tokens and signatures: the callback tokens we mint, and Standard Webhooks both ways.

Callback tokens are itsdangerous signatures, so that a URL is worth exactly one job of one account until a date.
Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import BadData, Signer, URLSafeSerializer
from itsdangerous import BadSignature as BadSignatureData
from itsdangerous.encoding import want_bytes

from orchestrator.clock import epoch_ms
from orchestrator.errors import BadSignature, BadToken, ConfigError

TOLERANCE = 300
_PREFIX = "whsec_"
_SIGNATURES_CAP = 32
#: How 32 bytes end in Base64 when the two bits left over are zero.
_LAST = frozenset("AEIMQUYcgkosw048")


@dataclass(frozen=True, slots=True)
class Callback:
    """What a callback token says: which job, and which attempt at submitting it."""

    job_id: str
    attempt: int


class _Signer(Signer):
    """HMAC-SHA256 with a key derived for a purpose once, not anew for every token."""

    default_digest_method = staticmethod(hashlib.sha256)
    default_key_derivation = "hmac"

    def __init__(self, secret_keys: Sequence[str], salt: bytes) -> None:
        super().__init__(secret_keys, salt)
        self._derived = {key: super(_Signer, self).derive_key(key) for key in self.secret_keys}

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        """Return what one of the secret keys, or the newest, comes to for this purpose."""
        return self._derived[self.secret_key if secret_key is None else want_bytes(secret_key)]


class _Serializer(URLSafeSerializer):
    """Makes and reads the tokens of one purpose, with one signer."""

    def __init__(self, secret_keys: Sequence[str], purpose: str) -> None:
        super().__init__(list(secret_keys), purpose)
        self._signer = _Signer(secret_keys, purpose.encode())

    def make_signer(self, salt: str | bytes | None = None) -> Signer:
        """Return the signer."""
        return self._signer


class Keys:
    """Everything derived from `secret_keys`: newest first, older ones still accepted."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        if not secret_keys:
            raise ConfigError("secret_keys is empty: give at least one long random text")
        # itsdangerous wants the newest last.
        oldest_first = list(reversed(secret_keys))
        self._serializer = lru_cache(maxsize=1024)(lambda purpose: _Serializer(oldest_first, purpose))
        self._vault = MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key, "vault"))) for key in secret_keys])
        #: Signs what goes to a job's own callback_url; all of them sign, so that a rotation breaks nobody.
        self.callback_secrets = tuple(
            _PREFIX + base64.b64encode(_derive(key, "callback deliveries")).decode() for key in secret_keys
        )

    def _opened(self, purpose: str, token: str) -> Any:
        """Return what a token holds. Raises `BadData`."""
        said = self._serializer(purpose).loads(token)
        if token[-1] not in _LAST:
            # Base64 leaves the last bits of the last character free: another spelling is another token, and not ours.
            raise BadSignatureData("not the spelling it was minted in")
        return said

    def mint(self, account: str, callback: Callback, expires: datetime) -> str:
        """Return the token of the URL that a vendor calls back for one attempt of one job."""
        payload = [callback.job_id, callback.attempt, epoch_ms(expires) // 1000]
        return str(self._serializer(f"callback:{account}").dumps(payload))

    def unseal(self, account: str, token: str, now: datetime) -> Callback:
        """Return what a token says. Raises `BadToken` if it is not ours, not for this account, or expired."""
        try:
            job_id, attempt, expires = self._opened(f"callback:{account}", token)
            late = epoch_ms(now) // 1000 > expires
        except (BadData, ValueError, TypeError) as error:
            raise BadToken("not a callback token for this account") from error
        if late:
            raise BadToken("the callback token has expired")
        return Callback(str(job_id), int(attempt))

    def admit(self, now: datetime) -> str:
        """Return a pass that proves, for a minute, that its bearer holds `secret_keys` (the local command line)."""
        return str(self._serializer("operator").dumps(epoch_ms(now) // 1000))

    def admits(self, token: str, now: datetime) -> bool:
        """True if `token` is such a pass, made within the last minute."""
        try:
            return abs(epoch_ms(now) // 1000 - int(self._opened("operator", token))) <= 60
        except (BadData, ValueError, TypeError):
            return False

    def hide(self, text: str) -> str:
        """Return `text` encrypted for storage (Fernet: AES-128-CBC with HMAC-SHA256), under the newest key."""
        return self._vault.encrypt(text.encode()).decode()

    def reveal(self, stored: str) -> str:
        """Return what `hide` was given. Raises `ConfigError` if none of the keys made it."""
        try:
            return self._vault.decrypt(stored).decode()
        except (InvalidToken, ValueError) as error:
            raise ConfigError("a stored secret was encrypted with a key that is no longer in secret_keys") from error


def _derive(key: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, so that no two uses share a key (RFC 5869)."""
    return HKDF(SHA256(), 32, salt=None, info=f"orchestrator {purpose}".encode()).derive(key.encode())


def new_secret() -> str:
    """Return a fresh signing secret, `whsec_` and 32 random bytes."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


@lru_cache(maxsize=4096)
def key_bytes(secret: str) -> bytes:
    """Return the bytes of a `whsec_` secret. Raises `ConfigError` if it is not Base64."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError("a signing secret must be whsec_ followed by Base64") from error
    if not key:
        raise ConfigError("a signing secret is empty")
    return key


def _mac(secret: str, signed: bytes) -> bytes:
    return hmac.digest(key_bytes(secret), signed, "sha256")


def sign(keys: Iterable[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three Standard Webhooks headers, with one signature for each key, newest first."""
    stamp = str(epoch_ms(at) // 1000)
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    signatures = " ".join("v1," + base64.b64encode(_mac(key, signed)).decode() for key in keys)
    return {"webhook-id": message_id, "webhook-timestamp": stamp, "webhook-signature": signatures}


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: datetime) -> bool:
    """Check Standard Webhooks headers (lower-case names): True if signed and right, False if not signed at all.

    Raises `BadSignature` naming the failed check when some header is there and anything is wrong with it.
    """
    said = [headers.get(f"webhook-{part}") for part in ("id", "timestamp", "signature")]
    if not any(said):
        return False
    message_id, stamp, signatures = said
    if not (message_id and stamp and signatures):
        raise BadSignature("webhook-id, webhook-timestamp and webhook-signature must come together")
    if "." in message_id or not re.fullmatch(r"[0-9]{1,12}", stamp):
        raise BadSignature("webhook-id or webhook-timestamp is malformed")
    if abs(epoch_ms(now) / 1000 - int(stamp)) > TOLERANCE:
        raise BadSignature("webhook-timestamp is more than five minutes away")
    signed = b".".join((message_id.encode("latin-1", "replace"), stamp.encode(), body))
    given = [_decoded(one) for one in signatures.split(" ")[:_SIGNATURES_CAP]]
    # Every pair is compared: how long it takes says nothing about which key or signature matched.
    macs = [_mac(key, signed) for key in keys]
    matches = [hmac.compare_digest(mac, one) for mac in macs for one in given]
    if not any(matches):
        raise BadSignature("no signature matches a configured secret")
    return True


def _decoded(signature: str) -> bytes:
    """Return the bytes of a `v1,<base64>` entry; nothing, which matches nothing, for any other."""
    version, _, value = signature.partition(",")
    try:
        return base64.b64decode(value, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""
