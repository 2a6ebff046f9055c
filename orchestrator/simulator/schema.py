"""Checks of JSON values, in the manner of JSON Schema.

A check yields every error of a value, each beginning with the dotted path to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, TypeVar

from orchestrator.simulator.json_body import JSON

Check: TypeAlias = Callable[[JSON, str], Iterator[str]]
T = TypeVar("T")
Fields: TypeAlias = Mapping[str, Check]
INFINITY = float("inf")


def _scalar(noun: str, kinds: tuple[type[T], ...], error: Callable[[T], str | None]) -> Check:
    """Check the JSON type, then the value: `error` returns its fault, or None."""

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            yield f"{path}: must be {noun}"
        elif found := error(value):
            yield f"{path}: {found}"

    return check


def string(*, at_most: int = 2500, empty: bool = False) -> Check:
    """Accept a string of at most `at_most` characters; the empty string only if `empty`."""

    def error(value: str) -> str | None:
        if not value and not empty:
            return "must not be empty"
        return f"longer than {at_most} characters" if len(value) > at_most else None

    return _scalar("a string", (str,), error)


def enum(*values: str) -> Check:
    error = f"not one of {', '.join(values)}"
    return _scalar("a string", (str,), lambda value: None if value in values else error)


def pattern(regex: str) -> Check:
    """Accept a string that matches `regex` as a whole."""
    match = re.compile(regex).fullmatch
    error = f"does not match {regex}"
    return _scalar("a string", (str,), lambda value: None if match(value) else error)


def _within(low: float, high: float) -> Callable[[float], str | None]:
    return lambda value: None if low <= value <= high else f"not within {low} and {high}"


def number(low: float = -INFINITY, high: float = INFINITY) -> Check:
    return _scalar("a number", (int, float), _within(low, high))


def integer(low: float = -INFINITY, high: float = INFINITY) -> Check:
    return _scalar("an integer", (int,), _within(low, high))


#: Accepts true and false, not their names.
boolean = _scalar("a boolean", (bool,), lambda value: None)


def any_of(first: Check, second: Check) -> Check:
    """Accept a value that passes either check; yield the errors of `first` otherwise."""

    def check(value: JSON, path: str) -> Iterator[str]:
        errors = list(first(value, path))
        if errors and any(second(value, path)):
            yield from errors

    return check


def array(of: Check, at_least: int = 1, at_most: int = 100) -> Check:
    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path}: must be an array"
            return
        if not at_least <= len(value) <= at_most:
            yield f"{path}: must have {at_least} to {at_most} items"
        for index, item in enumerate(value):
            yield from of(item, f"{path}.{index}")

    return check


def object_of(required: Fields, optional: Fields | None = None) -> Check:
    """Accept an object with these fields and no others."""
    fields = {**required, **(optional or {})}

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path or 'body'}: must be an object"
            return
        prefix = path and path + "."
        yield from (f"{prefix}{name}: missing" for name in required if name not in value)
        for name, item in value.items():
            if name in fields:
                yield from fields[name](item, prefix + name)
            else:
                yield f"{prefix}{name}: unknown field"

    return check


def tagged_union(tag: str, variants: Fields) -> Check:
    """Accept an object that passes the check which its field `tag` names."""

    def check(value: JSON, path: str) -> Iterator[str]:
        name = value.get(tag) if isinstance(value, dict) else None
        if isinstance(name, str) and name in variants:
            yield from variants[name](value, path)
        else:
            yield f"{path}.{tag}: not one of {', '.join(variants)}"

    return check
