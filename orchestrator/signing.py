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
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode, want_bytes

from orchestrator.clock import epoch_ms
from orchestrator.errors import BadSignature, BadToken, ConfigError, NotJson
from orchestrator.values import encode, parse

TOLERANCE = 300
_PREFIX = "whsec_"
_SIGNATURES_CAP = 32


class Callback(NamedTuple):
    """What a callback token says: which job, and which attempt at submitting it."""

    job_id: str
    attempt: int


class _Signer(Signer):
    """Makes and reads the tokens of one purpose: HMAC-SHA256 with a key derived for it once, not anew for every token.

    A token is what itsdangerous' URL-safe serializer makes of as short a payload: JSON and signature, each in Base64.
    """

    default_digest_method = staticmethod(hashlib.sha256)
    default_key_derivation = "hmac"

    def __init__(self, secret_keys: Sequence[str], purpose: str) -> None:
        super().__init__(list(secret_keys), purpose)
        derived = [self.derive_key(key) for key in reversed(self.secret_keys)]
        #: Newest first: signatures of nothing yet, which are cheaper to copy than to make.
        self._keyed = [hmac.new(key, digestmod=hashlib.sha256) for key in derived]

    def get_signature(self, value: str | bytes) -> bytes:
        """Return what the newest key signs a value with."""
        return _signature(self._keyed[0], want_bytes(value))

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        """Check a signature as it is spelt: Base64 leaves bits free, but another spelling is not what we minted."""
        return any(hmac.compare_digest(_signature(key, want_bytes(value)), want_bytes(sig)) for key in self._keyed)

    def seal(self, said: Any) -> str:
        """Return a token that holds `said`."""
        return self.sign(base64_encode(encode(said))).decode()

    def opened(self, token: str) -> Any:
        """Return what a token holds. Raises one of `_NOT_OURS`."""
        return parse(base64_decode(self.unsign(token)))


def _signature(keyed: hmac.HMAC, value: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(value)
    return base64_encode(mac.digest())


_NOT_OURS = (BadData, NotJson, ValueError, TypeError)


class Keys:
    """Everything derived from `secret_keys`: newest first, older ones still accepted."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        if not secret_keys:
            raise ConfigError("secret_keys is empty: give at least one long random text")
        # itsdangerous wants the newest last.
        oldest_first = list(reversed(secret_keys))
        self._signer = lru_cache(maxsize=1024)(lambda purpose: _Signer(oldest_first, purpose))
        self._vault = MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key, "vault"))) for key in secret_keys])
        #: Signs what goes to a job's own callback_url; all of them sign, so that a rotation breaks nobody.
        self.callback_secrets = tuple(
            _PREFIX + base64.b64encode(_derive(key, "callback deliveries")).decode() for key in secret_keys
        )

    def mint(self, account: str, callback: Callback, expires: datetime) -> str:
        """Return the token of the URL that a vendor calls back for one attempt of one job."""
        payload = [callback.job_id, callback.attempt, epoch_ms(expires) // 1000]
        return self._signer(f"callback:{account}").seal(payload)

    def unseal(self, account: str, token: str, now: datetime) -> Callback:
        """Return what a token says. Raises `BadToken` if it is not ours, not for this account, or expired."""
        try:
            job_id, attempt, expires = self._signer(f"callback:{account}").opened(token)
            late = epoch_ms(now) // 1000 > expires
        except _NOT_OURS as error:
            raise BadToken("not a callback token for this account") from error
        if late:
            raise BadToken("the callback token has expired")
        return Callback(str(job_id), int(attempt))

    def admit(self, now: datetime) -> str:
        """Return a pass that proves, for a minute, that its bearer holds `secret_keys` (the local command line)."""
        return self._signer("operator").seal(epoch_ms(now) // 1000)

    def admits(self, token: str, now: datetime) -> bool:
        """True if `token` is such a pass, made within the last minute."""
        try:
            return abs(epoch_ms(now) // 1000 - int(self._signer("operator").opened(token))) <= 60
        except _NOT_OURS:
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


@lru_cache(maxsize=4096)
def _keyed(secret: str) -> hmac.HMAC:
    """Return the signature of nothing yet: `hmac.digest` would prepare the key anew, and let go of the interpreter."""
    return hmac.new(key_bytes(secret), digestmod="sha256")


def _mac(secret: str, signed: bytes) -> bytes:
    mac = _keyed(secret).copy()
    mac.update(signed)
    return mac.digest()


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
