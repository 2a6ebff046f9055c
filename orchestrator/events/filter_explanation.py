"""Why a filter does not match an event: the first condition that fails."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator.events.filters import OPERATORS, field_of, is_array, test_of
from orchestrator.foundation.json_codec import escaped


class Failure(NamedTuple):
    """A condition: its JSON pointer into the filter, itself, and the value that it fails for."""

    pointer: str
    condition: Any
    value: Any


def first_failure(given: Any, value: Any, pointer: str = "") -> Failure | None:
    """Return the first condition of a valid filter that a value fails; None if it matches."""
    if test_of(given)(value):
        return None
    for there, part, inner in _parts(given, value, pointer):
        if (failure := first_failure(part, inner, there)) is not None:
            return failure
    if isinstance(given, dict):
        for name, part in given.items():
            if name in OPERATORS and not OPERATORS[name](part)(value):
                return Failure(f"{pointer}/{name}", {name: part}, value)
    return Failure(pointer, given, value)


def _parts(given: Any, value: Any, pointer: str) -> list[tuple[str, Any, Any]]:
    """Return the parts that must all match by themselves: pointer, filter and value."""
    if isinstance(given, list):
        parts = [(f"{pointer}/{number}", part, value) for number, part in enumerate(given)]
        return parts if is_array(value) else []
    if not isinstance(given, dict):
        return []
    found: list[tuple[str, Any, Any]] = []
    for name, part in given.items():
        there = f"{pointer}/{escaped(name)}"
        if name == "$and":
            found += [(f"{there}/{number}", one, value) for number, one in enumerate(part)]
        elif name not in OPERATORS and not is_array(value):
            # Of an array, one element has to match all fields.
            found.append((there, part, field_of(value, name)))
    return found
