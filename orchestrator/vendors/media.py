"""Media in an order: what a vendor can fetch, or an image that is part of the request.

A path of the caller's machine, `file:` and `data:` mean nothing to a vendor: a render that is paid
for would fail, or show something else.
"""

from __future__ import annotations

import binascii
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from orchestrator.vendors.large_images import LargeImages, unescaped

_URL = "must be a URL that the vendor can fetch, such as https://cdn.example.com/cat.png"
_IMAGE = f"{_URL}, or where the vendor takes it, an image in Base64 without data: before it"
#: How the Base64 of PNG, JPEG, GIF, WebP and BMP begins.
_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk")
#: No path of that length consists of letters, digits, + and / alone.
_LONG = 256
_BLANKS = b" \t\n\r\v\f"
#: Bytes that are decoded by one call: while it runs, the event loop waits. Base64 has groups of 4.
_SLICE = 1 << 20


def _clip(text: str) -> str:
    if not _is_url(text):
        raise PydanticCustomError("url", _URL)
    return text


def _image(text: str, info: ValidationInfo) -> str:
    large: LargeImages = info.context or {}
    if text in large:
        is_image = _decodes(unescaped(large[text]))
    else:
        is_image = _is_url(text) or _is_base64(text)
    if not is_image:
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
    may_be = text.startswith(_BEGINNINGS) or text.rstrip().endswith("=") or len(text) >= _LONG
    return may_be and text.isascii() and _decodes(text.encode())


def _decodes(text: bytes) -> bool:
    # Tools break the lines. Not split(): a text of ten million short lines is as many objects.
    text = text.translate(None, _BLANKS)
    if b"=" in text[:-2]:
        return False
    try:
        for start in range(0, len(text), _SLICE):
            binascii.a2b_base64(text[start : start + _SLICE], strict_mode=True)
    except binascii.Error:
        return False
    return bool(text)


#: The URL of a video or of sound.
Clip = Annotated[str, StringConstraints(min_length=1, max_length=700_000), AfterValidator(_clip)]
#: The URL of an image, or on gateways that take it, Base64 without a `data:` prefix; or the
#: reference of a large image, one of the `LargeImages` that are the context of the validation.
Image = Annotated[str, StringConstraints(min_length=1, max_length=32 << 20), AfterValidator(_image)]
