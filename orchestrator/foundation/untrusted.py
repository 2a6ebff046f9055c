"""Single values out of untrusted JSON: of the right type, bounded and storable, or None."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from orchestrator.foundation.clock import from_epoch

T = TypeVar("T")

_TEXT_CAP = 2000
_ID_CAP = 1024
#: Bits of an id that is a number: `str` refuses numbers of more than 4,300 digits.
_ID_BITS = 1024
_URL_CAP = 8192
_SCHEMES = ("http://", "https://")
#: Characters of a number.
_NUMBER_CAP = 32
_NUMERIC = (int, float, str)


def first(
    read: Callable[[Any], T | None], item: Mapping[str, Any], keys: Iterable[str]
) -> T | None:
    """Return the first readable value at one of these keys."""
    for key in keys:
        if key in item and (value := read(item[key])) is not None:
            return value
    return None


def url(value: Any) -> str | None:
    """Return an http(s) URL of at most 8,192 bytes, without blanks around it."""
    found = text(value.strip(), cap=_URL_CAP + 1) if isinstance(value, str) else None
    if not found or not found[:8].lower().startswith(_SCHEMES):
        return None
    size = len(found) if found.isascii() else len(found.encode())
    return found if size <= _URL_CAP else None


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


def is_label(value: str) -> bool:
    """True for a text that is shown as it is: one line, every character visible, blanks single."""
    return one_line(value) == value != ""


def _visible(character: str) -> str:
    if character in _INVISIBLE:
        return ""
    category = unicodedata.category(character)
    return "" if category in ("Cf", "Cs") else " " if category == "Cc" else character


#: Shown as nothing, although Unicode does not count them as format characters: fillers of Hangul,
#: the grapheme joiner, vowels of Khmer.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5")


def name(value: Any) -> str | None:
    """Return an id, which some gateways write as a number. It is exact, or None: never cut."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _ID_BITS:
        return str(value)
    found = text(value, _ID_CAP + 1)
    return found if found == value and len(found or "") <= _ID_CAP else None


def code(value: Any) -> str | int | None:
    """Return an error code: a number, also from its decimal string, or a word."""
    if isinstance(value, int):
        return value if not isinstance(value, bool) and abs(value) < 1 << 31 else None
    word = text(value, 64)
    return int(word) if word and word.isascii() and word.isdecimal() and len(word) < 10 else word


def number(value: Any) -> float | None:
    """Return a finite number, also from its decimal string."""
    if not isinstance(value, _NUMERIC) or isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) > _NUMBER_CAP:
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
    """Return 0..100, from 30, "30", "30%" or the fraction 0.3. The float 1.0 is all of it."""
    found = number(value.strip().removesuffix("%") if isinstance(value, str) else value)
    if found is None or not 0 <= found <= 100:
        return None
    is_fraction = found < 1 or (found == 1 and not isinstance(value, int) and "." in str(value))
    return round(found * 100) if is_fraction and "%" not in str(value) else int(found)


def instant(value: Any) -> datetime | None:
    """Return the instant of seconds or milliseconds since 1970, or of an ISO 8601 text.

    None for zero. A text without a zone is in UTC.
    """
    found = number(value)
    if found is not None:
        return from_epoch(found) if 0 < found < 1e14 else None
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        return at and (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
