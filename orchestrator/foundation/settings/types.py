"""The types of settings. A fault says what to write instead."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.masking import API_KEY_PREFIX
from orchestrator.foundation.signing.standard_webhooks import key_bytes

#: A tick cannot be shorter than what its scheduler can tell apart, and none need be as short.
_SHORTEST_PAUSE = 5.0


def _pause(seconds: float) -> float:
    if 0 < seconds < _SHORTEST_PAUSE:
        raise ValueError(f"must be 0, or at least {_SHORTEST_PAUSE:g}")
    return seconds


def _url(text: str) -> str:
    """Accept an http(s) URL with a host and without a query, or an empty text.

    `urlsplit` drops tabs and newlines, an HTTP client sends them.
    """
    text = text.strip()
    parts = urlsplit(text)
    if text and (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or not text.isprintable()
        or " " in text
    ):
        raise ValueError("must be a URL such as https://hooks.example.com")
    return text


def _database(text: str) -> str:
    if not re.match(r"(sqlite|postgres(ql)?)(\+\w+)?://", text):
        raise ValueError(
            "must be sqlite:///orchestrator.db or the like, "
            "or postgresql://user:password@host/database"
        )
    return re.sub(r"^postgres://", "postgresql://", text)


def _cidr(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError("must be a network such as 127.0.0.0/8, without host bits") from error
    return text


def _origin(text: str) -> str:
    parts = urlsplit(text)
    is_bare = text.lower() == text and f"{parts.scheme}://{parts.netloc}" == text
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_bare or "*" in text:
        raise ValueError("must be an origin such as https://app.example.com, without a path or *")
    return text


def _bootstrap_key(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"{API_KEY_PREFIX}[A-Za-z0-9_-]{{32,}}", secret.get_secret_value()):
        raise ValueError("must be orc_ followed by 32 or more letters, digits, - or _")
    return secret


def _signing_secret(secret: SecretStr) -> SecretStr:
    try:
        key_bytes(secret.get_secret_value())
    except ConfigError:
        raise ValueError("must be whsec_ followed by Base64") from None
    return secret


def _trimmed(secret: SecretStr) -> SecretStr:
    """Return the secret without the newline or blanks that a file or a shell leaves around it."""
    return SecretStr(secret.get_secret_value().strip())


def _sendable(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()):
        raise ValueError(
            "has characters that no HTTP header can carry; write printable ASCII, on one line"
        )
    return secret


def _option(text: str) -> str:
    """Accept a text that fits in a URL or a header, without the blanks around it."""
    text = text.strip()
    if not text.isprintable():
        raise ValueError("has control characters; write it on one line")
    return text


def _not_empty(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value():
        raise ValueError("must not be empty; write a long random text")
    return secret


def _account_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]{1,64}", text):
        raise ValueError("an account's name must be 1 to 64 of a-z, 0-9, - and _")
    return text


#: At most a year: more is a mistaken unit.
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
#: Seconds between checks; 0: none.
Pause = Annotated[float, Field(ge=0, le=86_400), AfterValidator(_pause)]
#: Per second.
Rate = Annotated[float, Field(gt=0, le=10_000)]
Url = Annotated[str, AfterValidator(_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
Origin = Annotated[str, AfterValidator(_origin)]
Cidr = Annotated[str, AfterValidator(_cidr)]
OptionText = Annotated[str, AfterValidator(_option)]
AccountName = Annotated[str, AfterValidator(_account_name)]
Secret = Annotated[SecretStr, AfterValidator(_trimmed)]
SecretKey = Annotated[Secret, AfterValidator(_not_empty)]
BootstrapKey = Annotated[Secret, AfterValidator(_bootstrap_key)]
SigningSecret = Annotated[Secret, AfterValidator(_signing_secret)]
#: A credential that is sent in a header, or signs one.
HeaderSecret = Annotated[Secret, AfterValidator(_sendable)]
