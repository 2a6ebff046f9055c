"""What is wrong with a filter that a caller gives: its limits, operators and operands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from orchestrator.events.filters import OPERATORS
from orchestrator.foundation.errors import Fault
from orchestrator.foundation.json_codec import encode, escaped, walk

MAX_BYTES, MAX_DEPTH, MAX_CONDITIONS, MAX_TEXT = 4096, 8, 25, 256
_LISTS = ("$in", "$nin")
_TEXTS = ("$startsWith", "$endsWith")
_ORDERS = ("$gt", "$gte", "$lt", "$lte")


def filter_faults(given: Any) -> list[Fault]:
    """Return the faults of a filter, each with the JSON pointer to it; none if it is valid."""
    if not isinstance(given, dict):
        return [Fault("", "filter_type", "A filter is an object over the body of an event")]
    # First, and without recursion: what follows recurses as deep as the filter.
    if faults := [*_limits(given)]:
        return faults
    if faults := [*_faults(given, "")]:
        return faults
    if (count := _conditions(given)) > MAX_CONDITIONS:
        message = f"A filter may have {MAX_CONDITIONS} conditions; this one has {count}"
        return [Fault("", "filter_conditions", message)]
    return []


def _limits(given: Any) -> Iterator[Fault]:
    for depth, pointer, key, value in walk(given):
        if isinstance(value, dict | list) and depth >= MAX_DEPTH:
            yield Fault(pointer, "filter_depth", f"A filter may be {MAX_DEPTH} levels deep")
            return
        if len(key) > MAX_TEXT or (isinstance(value, str) and len(value) > MAX_TEXT):
            yield Fault(pointer, "filter_text", f"A text may be {MAX_TEXT} characters long")
        if isinstance(value, float) and not math.isfinite(value):
            yield Fault(pointer, "filter_operand", "The number is too large")
    if len(encode(given)) > MAX_BYTES:
        yield Fault("", "filter_size", "A filter may be 4 KiB long, as compact JSON")


def _faults(given: Any, pointer: str) -> Iterator[Fault]:
    if isinstance(given, list):
        for number, part in enumerate(given):
            yield from _faults(part, f"{pointer}/{number}")
    if not isinstance(given, dict):
        return
    for name, part in given.items():
        there = f"{pointer}/{escaped(name)}"
        if name.startswith("$") and (message := _operand_fault(name, part)):
            code = "filter_operand" if name in OPERATORS else "filter_operator"
            yield Fault(there, code, message)
        elif name in ("$or", "$and", "$not") or not name.startswith("$"):
            yield from _faults(part, there)


def _operand_fault(name: str, part: Any) -> str | None:
    """Return what is wrong with an operator or its operand, or None."""
    if name not in OPERATORS:
        return f"No such operator; there are: {', '.join(OPERATORS)}"
    if name == "$not":
        return None
    if name in ("$or", "$and"):
        return None if isinstance(part, list) and part else f"{name} takes a list of filters"
    if name in _LISTS:
        fits = isinstance(part, list) and part and not any(map(_is_nested, part))
        return None if fits else f"{name} takes a list of texts, numbers, true, false or null"
    if name in _TEXTS:
        return None if isinstance(part, str) else f"{name} takes a text"
    if name == "$exist":
        return None if isinstance(part, bool) else f"{name} takes true or false"
    if name in _ORDERS:
        is_ordered = isinstance(part, str | int | float) and not isinstance(part, bool)
        return None if is_ordered else f"{name} takes a number or a text"
    return f"{name} takes a text, a number, true, false or null" if _is_nested(part) else None


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)


def _conditions(given: Any) -> int:
    """Return how many values are compared: an operator and its operand are one condition."""
    if isinstance(given, list):
        return sum(map(_conditions, given))
    if not isinstance(given, dict):
        return 1
    return sum(
        1 if name in OPERATORS and name not in ("$or", "$and", "$not") else _conditions(part)
        for name, part in given.items()
    )
