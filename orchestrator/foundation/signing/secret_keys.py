"""Everything derived from `secret_keys`: callback tokens, stream tickets, share links, operator
passes, encryption at rest, hashes.

A callback token is an itsdangerous signature over an attempt of a job of an account, with expiry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode, want_bytes

from orchestrator.foundation.addresses import canonical
from orchestrator.foundation.clock import epoch_ms, from_epoch
from orchestrator.foundation.errors import BadToken, ConfigError
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.masking import WEBHOOK_PREFIX


class Callback(NamedTuple):
    """The content of a callback token: a job, and the attempt at submitting it."""

    job_id: str
    attempt: int


class Session(NamedTuple):
    """A browser that has signed in: the id of its API key, and a random text of its own."""

    caller: str
    nonce: str


class SealedAddress(NamedTuple):
    """A stored web address: encrypted, with a keyed hash for look-ups."""

    key: str
    encrypted: str


class Ticket(NamedTuple):
    """The content of a stream ticket: the caller's id, globs of event types, and its number."""

    caller: str
    types: tuple[str, ...] | None
    number: str


class _Signer(Signer):
    """Signs and verifies the tokens of one purpose: HMAC-SHA256 with a derived key.

    The format is that of `itsdangerous.URLSafeSerializer` for short payloads: JSON and signature,
    each in Base64. Why not the library's signer: it derives the key for every token. To mint and
    read a token takes it 39 µs, and 8 µs here.
    """

    default_digest_method = staticmethod(hashlib.sha256)
    default_key_derivation = "hmac"

    def __init__(self, secret_keys: Sequence[str], purpose: str) -> None:
        super().__init__(list(secret_keys), purpose)
        derived = [self.derive_key(key) for key in reversed(self.secret_keys)]
        #: Newest first. An HMAC is cheaper to copy than to make.
        self._keyed = [hmac.new(key, digestmod=hashlib.sha256) for key in derived]

    def get_signature(self, value: str | bytes) -> bytes:
        """Return the signature of the newest key."""
        return _signature(self._keyed[0], want_bytes(value))

    def verify_signature(self, value: str | bytes, sig: str | bytes) -> bool:
        """True if the encoded signature is that of any key.

        The encoded texts are compared: Base64 decodes several spellings to the same bytes.
        """
        return any(
            hmac.compare_digest(_signature(key, want_bytes(value)), want_bytes(sig))
            for key in self._keyed
        )

    def seal(self, payload: Any) -> str:
        """Return a token that holds `payload`."""
        return self.sign(base64_encode(encode(payload))).decode()

    def unseal(self, token: str) -> Any:
        """Return the payload of a token. Raises one of `_INVALID`."""
        # Our own JSON once the signature fits: neither odd encodings nor long numbers.
        return orjson.loads(base64_decode(self.unsign(token)))


def _signature(keyed: hmac.HMAC, value: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(value)
    return base64_encode(mac.digest())


_INVALID = (BadData, ValueError, TypeError)


class Keys:
    """Everything derived from `secret_keys`. The newest makes; older ones are still accepted."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        if not secret_keys:
            raise ConfigError("secret_keys is empty: give at least one long random text")
        # itsdangerous expects the newest last.
        oldest_first = list(reversed(secret_keys))
        self._signer = lru_cache(maxsize=1024)(lambda purpose: _Signer(oldest_first, purpose))
        self._vault = MultiFernet(
            [Fernet(base64.urlsafe_b64encode(_derive(key, "vault"))) for key in secret_keys]
        )
        self._hashes = [_derive(key, "hashes") for key in secret_keys]
        #: The same text for the same address, so that decrypted ones can be cached; and to encrypt
        #: costs more than all else that a submission does with an address.
        self.seal_address = lru_cache(maxsize=1024)(self._seal_address)
        #: Sign deliveries to a job's `callback_url`: all of them, so that rotation breaks nothing.
        self.callback_secrets = tuple(
            WEBHOOK_PREFIX + base64.b64encode(_derive(key, "callback deliveries")).decode()
            for key in secret_keys
        )

    def mint(self, account: str, callback: Callback, expires: datetime) -> str:
        """Return the token of the callback URL for one attempt of one job."""
        payload = [callback.job_id, callback.attempt, epoch_ms(expires) // 1000]
        return self._signer(f"callback:{account}").seal(payload)

    def unseal(self, account: str, token: str, now: datetime) -> Callback:
        """Return the content of a callback token.

        Raises `BadToken` if it is not ours, not for this account, or expired.
        """
        try:
            job_id, attempt, expires = self._signer(f"callback:{account}").unseal(token)
            late = epoch_ms(now) // 1000 > expires
        except _INVALID as error:
            raise BadToken("not a callback token for this account") from error
        if late:
            raise BadToken("the callback token has expired")
        return Callback(str(job_id), int(attempt))

    def mint_ticket(self, ticket: Ticket, expires: datetime) -> str:
        """Return a stream ticket as text for a URL."""
        return self._signer("stream ticket").seal([*ticket, epoch_ms(expires)])

    def read_ticket(self, text: str, now: datetime) -> tuple[Ticket, datetime]:
        """Return the content of a stream ticket, and when it expires.

        Raises `BadToken` if it is not ours, or has expired.
        """
        try:
            caller, types, number, expires = self._signer("stream ticket").unseal(text)
            until = from_epoch(expires)
            chosen = None if types is None else tuple(types)
        except _INVALID as error:
            raise BadToken("not a stream ticket") from error
        if until <= now:
            raise BadToken("the stream ticket has expired")
        return Ticket(caller, chosen, number), until

    def mint_share(self, job_id: str, expires: datetime) -> str:
        """Return the token of a link to one job."""
        return self._signer("share").seal([job_id, epoch_ms(expires)])

    def open_share(self, token: str, now: datetime) -> str:
        """Return the id of the job that the token of a link shows.

        Raises `BadToken` if it is not ours, or has expired.
        """
        try:
            job_id, expires = self._signer("share").unseal(token)
            late = from_epoch(expires) <= now
        except _INVALID as error:
            raise BadToken("not the token of a share link") from error
        if late:
            raise BadToken("the share link has expired")
        return str(job_id)

    def mint_session(self, session: Session, expires: datetime) -> str:
        """Return the session of a browser as text for a cookie."""
        return self._signer("dashboard session").seal([*session, epoch_ms(expires)])

    def read_session(self, text: str, now: datetime) -> Session:
        """Return a session. Raises `BadToken` if it is not ours, or has expired."""
        try:
            caller, nonce, expires = self._signer("dashboard session").unseal(text)
            until = from_epoch(expires)
        except _INVALID as error:
            raise BadToken("not a session") from error
        if until <= now:
            raise BadToken("the session has expired")
        return Session(str(caller), str(nonce))

    def mint_form(self, session: Session) -> str:
        """Return the token of the forms of a session, which other sites cannot know."""
        return self._signer("dashboard form").seal(session.nonce)

    def accepts_form(self, token: str, session: Session) -> bool:
        """True if `token` is that of the session's forms."""
        try:
            nonce = str(self._signer("dashboard form").unseal(token))
        except _INVALID:
            return False
        return hmac.compare_digest(nonce, session.nonce)

    def mint_pass(self, now: datetime) -> str:
        """Return an operator pass: proof, for a minute, that its bearer has the secret keys."""
        return self._signer("operator").seal(epoch_ms(now) // 1000)

    def accepts_pass(self, token: str, now: datetime) -> bool:
        """True if `token` is an operator pass made within a minute."""
        try:
            return abs(epoch_ms(now) // 1000 - int(self._signer("operator").unseal(token))) <= 60
        except _INVALID:
            return False

    def encrypt(self, text: str) -> str:
        """Return `text` encrypted for storage under the newest key.

        Fernet: AES-128-CBC with HMAC-SHA256.
        """
        return self._vault.encrypt(text.encode()).decode()

    def hashes(self, text: str) -> tuple[str, ...]:
        """Return the keyed hashes of a text, that of the newest key first (HMAC-SHA256).

        Unlike a plain digest, they cannot be compared with guesses by a reader of the database.
        """
        data = text.encode()
        return tuple(hmac.digest(key, data, "sha256").hex() for key in self._hashes)

    def _seal_address(self, url: str) -> SealedAddress:
        return SealedAddress(self.hashes(canonical(url))[0], self.encrypt(url))

    def open_address(self, stored: str) -> str:
        """Return an address as given to `seal_address`. Raises `ConfigError`.

        Those of older jobs are in the clear until `engine.encryption` has come to them.
        """
        return stored if is_clear(stored) else self.decrypt(stored)

    def decrypt(self, stored: str) -> str:
        """Return the text given to `encrypt`. Raises `ConfigError` if no key made `stored`."""
        try:
            return self._vault.decrypt(stored).decode()
        except (InvalidToken, ValueError) as error:
            raise ConfigError(
                "a stored secret was encrypted with a key that is no longer in secret_keys"
            ) from error


def is_clear(stored: str) -> bool:
    """True if a stored address is not encrypted."""
    return stored[:4].lower() == "http"


def _derive(key: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, so that no two purposes share a key (RFC 5869)."""
    info = f"orchestrator {purpose}".encode()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(key.encode())
