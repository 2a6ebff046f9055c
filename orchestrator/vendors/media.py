"""Media in an order: what a vendor can fetch, or an image that is part of the request.

A path of the caller's machine, `file:` and `data:` mean nothing to a vendor: a render that is paid
for would fail, or show something else.
"""

from __future__ import annotations

import binascii
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

_URL = "must be a URL that the vendor can fetch, such as https://cdn.example.com/cat.png"
_IMAGE = f"{_URL}, or where the vendor takes it, an image in Base64 without data: before it"
#: How the Base64 of PNG, JPEG, GIF, WebP and BMP begins.
_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk")
#: No path of that length consists of letters, digits, + and / alone.
_LONG = 256


def _clip(text: str) -> str:
    if not _is_url(text):
        raise PydanticCustomError("url", _URL)
    return text


def _image(text: str) -> str:
    if not (_is_url(text) or _is_base64(text)):
        raise PydanticCustomError("url", _IMAGE)
    return text


def _is_url(text: str) -> bool:
    """True for an absolute http(s) URL with a host, without blanks and control characters."""
    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _is_base64(text: str) -> bool:
    """True for Base64 that is no path: it begins like an image, is padded, or is long."""
    if not (text.startswith(_BEGINNINGS) or text.rstrip().endswith("=") or len(text) >= _LONG):
        return False
    try:
        # Tools break the lines.
        return bool(binascii.a2b_base64("".join(text.split()), strict_mode=True))
    except (ValueError, binascii.Error):
        return False


_Text = Annotated[str, StringConstraints(min_length=1, max_length=700_000)]
#: The URL of a video or of sound.
Clip = Annotated[_Text, AfterValidator(_clip)]
#: The URL of an image, or on gateways that take it, Base64 without a `data:` prefix.
Image = Annotated[_Text, AfterValidator(_image)]
