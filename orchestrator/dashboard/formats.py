"""How values of the API are shown: spans of time, sizes, shares, and JSON to read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from orchestrator.foundation.durations import span

#: Characters of JSON that are shown.
_READABLE = 32_768


def exact(seconds: float) -> str:
    """Return a length of time to the millisecond: `340 ms`, `12.345 s`, `3 min 2.104 s`."""
    total = round(seconds * 1000)
    if total < 1000:
        return f"{total} ms"
    minutes, rest = divmod(total, 60_000)
    if not minutes:
        return f"{rest / 1000:.3f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest / 1000:.3f} s"


def between(start: str | None, end: str | None) -> str:
    """Return the length of time between two instants of the API; empty if one is missing.

    None is negative: clocks of two machines, or one that was set, may say so.
    """
    if not start or not end:
        return ""
    took = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return span(max(0.0, took.total_seconds()))


def is_past(instant: str | None, now: datetime) -> bool:
    """True if an instant of the API is over."""
    return bool(instant) and datetime.fromisoformat(str(instant)) <= now


def milliseconds(value: float | None) -> str:
    """Return a length of time given in milliseconds."""
    return "" if value is None else span(value / 1000)


def share(part: float, whole: float) -> str:
    """Return a share in percent; empty of nothing."""
    return f"{part / whole:.1%}" if whole else ""


def count(value: int | None) -> str:
    """Return a number with its thousands set apart."""
    return "" if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Return a number of bytes: `1.4 MB`."""
    if value is None:
        return ""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def readable(value: Any) -> str:
    """Return a JSON value as text to read, a long one in part: indents multiply deep documents."""
    compact = json.dumps(value, ensure_ascii=False)
    if len(compact) <= _READABLE:
        return json.dumps(value, indent=2, ensure_ascii=False)
    return f"{compact[:_READABLE]}… ({size(len(compact.encode('utf-8', 'replace')))})"


def web(address: Any) -> str:
    """Return a web address; empty for any other, such as `javascript:`, which no page follows."""
    if isinstance(address, str) and address.lower().startswith(("https://", "http://")):
        return address
    return ""


def clock_time(instant: str) -> str:
    """Return an instant of the API for reading without a script: `2026-11-20 10:00:00 UTC`."""
    return f"{instant[:10]} {instant[11:19]} UTC"


#: How a status is shown: its tone, and an icon besides the word and the colour.
_TONES = {
    "good": ("succeeded", "delivered", "active", "completed", "done"),
    "bad": ("failed", "expired", "dead", "disabled", "revoked", "problem"),
    "warn": ("held", "paused", "canceled", "warning", "degraded"),
    "live": ("queued", "submitting", "submitted", "processing", "pending", "running"),
}
_TONE = {word: tone for tone, words in _TONES.items() for word in words}
_ICONS = {"good": "\u2713", "bad": "\u2715", "warn": "\u25b2", "live": "\u25cf"}


def tone_of(status: str) -> str:
    """Return the tone of a status: `good`, `bad`, `warn` or `live`; empty for an unknown one."""
    return _TONE.get(status, "")


def icon_of(status: str) -> str:
    """Return the icon of a status."""
    return icon_of_tone(tone_of(status))


def icon_of_tone(tone: str) -> str:
    """Return the icon of a tone; a ring for one without."""
    return _ICONS.get(tone, "\u25cb")


FILTERS = {
    "span": span,
    "ms": milliseconds,
    "share": share,
    "count": count,
    "bytes": size,
    "readable": readable,
    "clock": clock_time,
    "exact": exact,
    "between": between,
    "is_past": is_past,
    "web": web,
}
