"""Fields of forms as values of the API. What cannot be read goes on as it is: the API refuses it.

So a fault has one place, and its message names the field.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: What a browser's field for a date and a time sends: no zone.
_LOCAL = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?")


def number(text: str) -> int | float | str:
    """Return a number."""
    try:
        found = int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text
    return found if math.isfinite(found) else text


def instant(text: str) -> str:
    """Return a time in RFC 3339: one without a zone is in UTC."""
    found = _LOCAL.fullmatch(text)
    if found is None:
        return text
    return f"{text}Z" if found[1] else f"{text}:00Z"


def words(text: str) -> list[str]:
    """Return words that commas or blanks separate."""
    return text.replace(",", " ").split()


def pairs(text: str, separator: str) -> dict[str, str]:
    """Return names and values, one pair on a line; a line without a separator is a name alone."""
    split = (line.partition(separator) for line in text.splitlines() if line.strip())
    return {name.strip(): value.strip() for name, _, value in split}


def json_value(text: str) -> Any:
    """Return the JSON value of a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
