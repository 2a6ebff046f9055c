"""Large images in Base64: taken out of a body before it is parsed, put into the vendor's request.

In between, the job holds a reference in place of each: its SHA-256 and its length. So no parser, no
row that changes, no list and no event carries megabytes. A reference is neither a URL nor Base64:
callers cannot send one as an image.

Every step is a few calls into C, which take about a millisecond for each MiB.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

#: References, each with the text of its image as a JSON string holds it, without the quotes.
LargeImages = Mapping[str, bytes]

#: How every reference begins.
BEGINNING = "base64;sha256="
_WHOLE = re.compile(rb'"base64;sha256=[0-9a-f]+;length=[0-9]+"')
#: Bytes of a large image: what 1 MiB may hold of smaller ones is no burden.
_LARGE = 16 << 10
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_"
#: Line breaks, and what PHP, .NET and Gson escape of Base64.
_ESCAPES = {
    rb"\/": b"/", rb"\n": b"\n", rb"\r": b"\r",
    rb"\u002B": b"+", rb"\u002b": b"+", rb"\u003D": b"=", rb"\u003d": b"=",
}  # fmt: skip


def take_out(body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Return JSON with references in place of its large images, and these images.

    Whatever is not valid JSON stays so. Large `data:` URIs are taken out too, to be refused.
    """
    images: dict[str, bytes] = {}
    pieces: list[bytes] = []
    copied = 0
    for start, end in _long_gaps(body):
        written = body[start:end]
        text = unescaped(written)
        if _is_large_image(text):
            reference = _reference(text)
            images[reference] = written
            pieces += body[copied:start], reference.encode()
            copied = end
    return b"".join((*pieces, body[copied:])), images


def _long_gaps(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield where long texts begin and end that stand between two quotes, the first unescaped."""
    quote = body.find(b'"')
    while (after := body.find(b'"', quote + 1)) > 0:
        if after - quote > _LARGE and body[quote - 1 : quote] != b"\\":
            yield quote + 1, after
        quote = after


def _is_large_image(text: bytes) -> bool:
    """True for what can only be the inside of a string: between two strings, JSON has others."""
    others = b"\r\n:;,." if text.startswith(b"data:") else b"\r\n"
    return len(text) >= _LARGE and not text.translate(None, _BASE64 + others)


def _reference(text: bytes) -> str:
    return f"{BEGINNING}{hashlib.sha256(text).hexdigest()};length={len(text)}"


def referenced(text: str) -> str:
    """Return the reference that `take_out` puts in place of a large image; other text unchanged."""
    if len(text) < _LARGE or not _is_large_image(written := text.encode()):
        return text
    return _reference(written)


def unescaped(written: bytes) -> bytes:
    """Return the text of an image as its JSON string means it."""
    if b"\\" in written:
        for escape, character in _ESCAPES.items():
            written = written.replace(escape, character)
    return written


def are_in(text: bytes) -> bool:
    """True if JSON text holds a reference, or a text that looks like one."""
    return b'"' + BEGINNING.encode() in text


def is_left_in(text: bytes) -> bool:
    """True if JSON text holds a whole reference: its image was not among those put back."""
    return _WHOLE.search(text) is not None


def put_back(text: bytes, images: LargeImages) -> bytes:
    """Return JSON with the images in place of their references."""
    for reference, image in images.items():
        text = text.replace(b'"%b"' % reference.encode(), b'"%b"' % image)
    return text
