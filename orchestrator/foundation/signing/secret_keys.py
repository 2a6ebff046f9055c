"""Everything that is derived from `secret_keys`: callback tokens, operator passes, encryption at rest.

Callback tokens are itsdangerous signatures, so that a URL is worth exactly one job of one account until a date.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode, want_bytes

from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.errors import BadToken, ConfigError, NotJson
from orchestrator.foundation.json_codec import encode, parse
from orchestrator.foundation.signing.standard_webhooks import PREFIX


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
        return any(
            hmac.compare_digest(_signature(key, want_bytes(value)), want_bytes(sig))
            for key in self._keyed
        )

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
        self._vault = MultiFernet(
            [Fernet(base64.urlsafe_b64encode(_derive(key, "vault"))) for key in secret_keys]
        )
        #: Signs what goes to a job's own callback_url; all of them sign, so that a rotation breaks nobody.
        self.callback_secrets = tuple(
            PREFIX + base64.b64encode(_derive(key, "callback deliveries")).decode()
            for key in secret_keys
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
            raise ConfigError(
                "a stored secret was encrypted with a key that is no longer in secret_keys"
            ) from error


def _derive(key: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, so that no two uses share a key (RFC 5869)."""
    return HKDF(SHA256(), 32, salt=None, info=f"orchestrator {purpose}".encode()).derive(
        key.encode()
    )
