"""Lengths of time as texts."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Seconds of a unit, and its name.
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
#: What is written after a number of seconds, minutes, hours or days.
_SUFFIXES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str) -> int | None:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `30d`; None for any other text."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    return int(found[1]) * _SUFFIXES[found[2]] if found else None


def span(seconds: float | None, named: Callable[[str], str] = str) -> str:
    """Return a length of time with the two largest units that matter: `2 min 5 s`, `340 ms`.

    `named` returns the name of a unit.
    """
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{round(seconds * 1000)} {named('ms')}"
    if seconds < 10:
        return f"{seconds:.1f} {named('s')}"
    left, parts = round(seconds), list[str]()
    for size, unit in _UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {named(unit)}")
            left %= size
        elif parts:
            break
    return " ".join(parts)
