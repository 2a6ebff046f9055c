"""Single values out of untrusted JSON: of the right type, bounded and storable, or None."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime
from typing import Any

from orchestrator.foundation.clock import from_epoch

_TEXT_CAP = 2000
_ID_CAP = 255
_URL_CAP = 8192


def url(value: Any) -> str | None:
    """Return an http(s) URL of at most 8,192 characters."""
    found = text(value, cap=_URL_CAP + 1)
    is_url = found and found.startswith(("http://", "https://")) and len(found) <= _URL_CAP
    return found if is_url else None


def text(value: Any, cap: int = _TEXT_CAP) -> str | None:
    """Return a text that both databases can store (no NUL, no lone surrogate), cut at `cap`.

    None for an empty text.
    """
    if not isinstance(value, str) or not value:
        return None
    if value.isascii() and "\0" not in value:
        return value[:cap]
    return value[:cap].replace("\0", "").encode("utf-8", "replace").decode() or None


def one_line(value: Any) -> str:
    """Return a value as one line of text for people, without characters that no reader can see.

    Bidirectional controls can show a text as another one, and zero-width characters hide a
    difference (https://www.unicode.org/reports/tr36/).
    """
    if value is None:
        return ""
    return " ".join("".join(map(_visible, str(value))).split())


def _visible(character: str) -> str:
    if character in _INVISIBLE:
        return ""
    category = unicodedata.category(character)
    return "" if category in ("Cf", "Cs") else " " if category == "Cc" else character


#: Shown as nothing, although Unicode does not count them as format characters: fillers of Hangul,
#: the grapheme joiner, vowels of Khmer.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5")


def name(value: Any) -> str | None:
    """Return an id, which some gateways write as a number."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    return text(value, _ID_CAP)


def code(value: Any) -> str | int | None:
    """Return an error code: a number, also from its decimal string, or a word."""
    if isinstance(value, int):
        return value if not isinstance(value, bool) and abs(value) < 1 << 31 else None
    word = text(value, 64)
    return int(word) if word and word.isascii() and word.isdecimal() and len(word) < 10 else word


def number(value: Any) -> float | None:
    """Return a finite number, also from its decimal string."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 32:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def seconds(value: Any) -> float | None:
    """Return a duration in seconds, from 5, "5" or "5.041"."""
    found = number(value)
    return found if found is not None and 0 <= found < 1e6 else None


def percent(value: Any) -> int | None:
    """Return 0..100, from 30, "30" or "30%"."""
    found = number(value.removesuffix("%") if isinstance(value, str) else value)
    return int(found) if found is not None and 0 <= found <= 100 else None


def instant(value: Any) -> datetime | None:
    """Return the instant of a number of seconds or milliseconds since 1970; None for zero."""
    found = number(value)
    return from_epoch(found) if found and 0 < found < 1e14 else None
