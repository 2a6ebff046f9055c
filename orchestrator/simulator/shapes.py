"""A small language for what a JSON body may hold. A check yields what is wrong, each time with the path to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, JSON]
Check: TypeAlias = Callable[[JSON, str], Iterator[str]]


def text(*, at_most: int = 2500, empty: bool = False) -> Check:
    """A string of at most `at_most` characters; the empty one only where `empty` allows it."""

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{path}: wants a string"
        elif not value and not empty:
            yield f"{path}: must not be empty"
        elif len(value) > at_most:
            yield f"{path}: longer than {at_most} characters"

    return check


def one_of(*words: str) -> Check:
    """One of the words an enumeration has."""

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{path}: wants a string"
        elif value not in words:
            yield f"{path}: not one of {', '.join(words)}"

    return check


def matching(pattern: str) -> Check:
    """A string that is wholly of one pattern."""
    form = re.compile(pattern)

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{path}: wants a string"
        elif not form.fullmatch(value):
            yield f"{path}: not of the form {pattern}"

    return check


def number(low: float = float("-inf"), high: float = float("inf")) -> Check:
    """A JSON number within bounds, whole or not."""

    def check(value: JSON, path: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: wants a number"
        elif not low <= value <= high:
            yield f"{path}: not within {low} and {high}"

    return check


def integer(low: float = float("-inf"), high: float = float("inf")) -> Check:
    """A whole JSON number within bounds."""

    def check(value: JSON, path: str) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, int):
            yield f"{path}: wants an integer"
        elif not low <= value <= high:
            yield f"{path}: not within {low} and {high}"

    return check


def boolean(value: JSON, path: str) -> Iterator[str]:
    """true or false, and not their names."""
    if not isinstance(value, bool):
        yield f"{path}: wants a boolean"


def either(first: Check, second: Check) -> Check:
    """What either check accepts; where neither does, the first one's words."""

    def check(value: JSON, path: str) -> Iterator[str]:
        wrong = list(first(value, path))
        if wrong and any(second(value, path)):
            yield from wrong

    return check


def array(of: Check, at_least: int = 1, at_most: int = 100) -> Check:
    """A list whose every item passes `of`."""

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{path}: wants an array"
            return
        if not at_least <= len(value) <= at_most:
            yield f"{path}: wants {at_least} to {at_most} items"
        for index, item in enumerate(value):
            yield from of(item, f"{path}.{index}")

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields and no others."""
    fields = {**required, **(optional or {})}

    def check(value: JSON, path: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path or 'body'}: wants an object"
            return
        inside = path and path + "."
        yield from (f"{inside}{name}: missing" for name in required if name not in value)
        for name, item in value.items():
            if name in fields:
                yield from fields[name](item, inside + name)
            else:
                yield f"{inside}{name}: unknown field"

    return check


def variant(tag: str, forms: Mapping[str, Check]) -> Check:
    """An object whose field `tag` says which of the forms it has to have."""

    def check(value: JSON, path: str) -> Iterator[str]:
        word = value.get(tag) if isinstance(value, dict) else None
        if isinstance(word, str) and word in forms:
            yield from forms[word](value, path)
        else:
            yield f"{path}.{tag}: not one of {', '.join(forms)}"

    return check
