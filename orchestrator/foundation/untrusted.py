"""Single values out of untrusted JSON: of the right type, bounded, storable, or None."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from orchestrator.foundation.clock import from_epoch

_TEXT_CAP = 2000


_ID_CAP = 255


_URL_CAP = 8192


def url(value: Any) -> str | None:
    """Return `value` if it is an http(s) URL of sensible length."""
    said = text(value, cap=_URL_CAP + 1)
    return (
        said
        if said and said.startswith(("http://", "https://")) and len(said) <= _URL_CAP
        else None
    )


def text(value: Any, cap: int = _TEXT_CAP) -> str | None:
    """Return a string both databases can store (no NUL, no lone surrogate), capped; None for anything else or empty."""
    if not isinstance(value, str) or not value:
        return None
    if value.isascii() and "\0" not in value:
        return value[:cap]
    return value[:cap].replace("\0", "").encode("utf-8", "replace").decode() or None


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
        said = float(value)
    except (ValueError, OverflowError):
        return None
    return said if math.isfinite(said) else None


def seconds(value: Any) -> float | None:
    """Return a length in seconds, from 5, "5" or "5.041"."""
    said = number(value)
    return said if said is not None and 0 <= said < 1e6 else None


def percent(value: Any) -> int | None:
    """Return 0..100, from 30, "30" or "30%"."""
    said = number(value.removesuffix("%") if isinstance(value, str) else value)
    return int(said) if said is not None and 0 <= said <= 100 else None


def instant(value: Any) -> datetime | None:
    """Return the time of a vendor's number, in seconds or milliseconds; None for zero and nonsense."""
    said = number(value)
    return from_epoch(said) if said and 0 < said < 1e14 else None
