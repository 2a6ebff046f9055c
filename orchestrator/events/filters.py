"""Filters: which events of its types a subscriber wants, as JSON over the body of an event.

The language is the one that Hookdeck, Convoy and Outpost share
(https://hookdeck.com/docs/filters), with strict types: no value equals one of another JSON type.
`docs/filters.md` describes it. A filter is compiled to closures, once for each text; its own limits
(`filter_faults`) bound their depth, and an array is compared up to its first `MAX_ELEMENTS`.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any

#: Returns whether a value of the body matches; a field that is not there is `MISSING`.
Test = Callable[[Any], bool]
#: A path of field names and a text or a number: the value, or an element of it, is equal.
Key = tuple[tuple[str, ...], str | float]

MISSING: Any = object()
#: Elements of an array that are compared: a caller's array may be of any length.
MAX_ELEMENTS = 256
_ARRAY = (list, tuple)


class Filter:
    """A filter of a valid JSON text.

    `keys`: each set has a key that every matching body meets. `names`: the fields that it reads,
    at any depth.
    """

    __slots__ = ("_given", "_test", "keys", "names")

    def __init__(self, text: str) -> None:
        self._given = json.loads(text)
        self._test: Test | None = None
        self.keys = tuple(_keys(self._given, ()))
        self.names = frozenset(_names(self._given))

    def matches(self, body: Any) -> bool:
        """Return whether the body of an event matches."""
        if self._test is None:
            # Only now: of ten thousand filters, few are ever tested if they have keys.
            self._test = test_of(self._given)
        return self._test(body)


#: Returns the filter of a text, always the same one.
compiled = lru_cache(maxsize=16384)(Filter)


def test_of(given: Any) -> Test:
    """Return the test of a filter or of a part of one.

    A scalar is equal, an array is contained, and of an object all operators and fields match.
    """
    if isinstance(given, list):
        return _contains([test_of(element) for element in given])
    if not isinstance(given, dict):
        return _of_elements(_equal(given))
    tests = [OPERATORS[name](part) for name, part in given.items() if name in OPERATORS]
    fields = {name: test_of(part) for name, part in given.items() if name not in OPERATORS}
    if fields:
        tests.append(_fields(fields))
    return tests[0] if len(tests) == 1 else _all(tests)


def field_of(value: Any, name: str) -> Any:
    """Return a field of a value; `MISSING` if there is none, or the value is no object."""
    return value.get(name, MISSING) if isinstance(value, dict) else MISSING


def is_array(value: Any) -> bool:
    """Return whether a value of a body is an array."""
    return isinstance(value, _ARRAY)


def _all(tests: list[Test]) -> Test:
    return lambda value: all(test(value) for test in tests)


def _any(tests: list[Test]) -> Test:
    return lambda value: any(test(value) for test in tests)


def _negated(test: Test) -> Test:
    return lambda value: not test(value)


def _contains(tests: list[Test]) -> Test:
    """Match an array that matches each test: that contains each value."""
    return lambda value: isinstance(value, _ARRAY) and all(test(value) for test in tests)


def _of_elements(test: Test) -> Test:
    """Match a value, or an array with such an element. Arrays in arrays are not opened."""

    def check(value: Any) -> bool:
        if isinstance(value, _ARRAY):
            return any(map(test, value[:MAX_ELEMENTS]))
        return test(value)

    return check


def _fields(tests: Mapping[str, Test]) -> Test:
    """Match an object, or an array with one element, whose fields all match."""
    pairs = tuple(tests.items())
    absent = all(test(MISSING) for test in tests.values())

    def of_object(value: Any) -> bool:
        if isinstance(value, dict):
            return all(test(value.get(name, MISSING)) for name, test in pairs)
        return absent

    def of_one_field(value: Any) -> bool:
        return test(value.get(name, MISSING)) if isinstance(value, dict) else absent

    name, test = pairs[0]
    check = of_one_field if len(pairs) == 1 else of_object
    return _of_elements(check)


def _equal(operand: Any) -> Test:
    """Match a scalar of the same JSON type. 1 and 1.0 are one number; true is none."""
    if operand is None or isinstance(operand, bool):
        return lambda value: value is operand
    if isinstance(operand, str):
        return lambda value: bool(value == operand)
    return lambda value: bool(value == operand and not isinstance(value, bool))


def _one_of(operand: list[Any]) -> Test:
    texts = frozenset(one for one in operand if isinstance(one, str))
    rest = _any([_equal(one) for one in operand if not isinstance(one, str)])
    return lambda value: value in texts if isinstance(value, str) else rest(value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    """Compare numbers with numbers and texts with texts; nothing else is before or after."""

    def test_with(operand: Any) -> Test:
        kinds = str if isinstance(operand, str) else (int, float)

        def check(value: Any) -> bool:
            return (
                isinstance(value, kinds) and not isinstance(value, bool) and compare(value, operand)
            )

        return _of_elements(check)

    return test_with


def _starts(operand: str) -> Test:
    return lambda value: isinstance(value, str) and value.startswith(operand)


def _ends(operand: str) -> Test:
    return lambda value: isinstance(value, str) and value.endswith(operand)


def _exists(operand: bool) -> Test:
    return lambda value: (value is not MISSING) is operand


#: Each returns the test of an operand.
OPERATORS: Mapping[str, Callable[[Any], Test]] = {
    "$eq": lambda operand: _of_elements(_equal(operand)),
    "$neq": lambda operand: _negated(_of_elements(_equal(operand))),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$in": lambda operand: _of_elements(_one_of(operand)),
    "$nin": lambda operand: _negated(_of_elements(_one_of(operand))),
    "$startsWith": lambda operand: _of_elements(_starts(operand)),
    "$endsWith": lambda operand: _of_elements(_ends(operand)),
    "$exist": _exists,
    "$or": lambda operand: _any([test_of(part) for part in operand]),
    "$and": lambda operand: _all([test_of(part) for part in operand]),
    "$not": lambda operand: _negated(test_of(operand)),
}


def values_at(body: Any, path: tuple[str, ...]) -> Iterable[Any]:
    """Return the texts and numbers at a path, through the elements of arrays."""
    found = [body]
    for name in path:
        inner = (field_of(one, name) for value in found for one in _opened(value))
        found = [value for value in inner if value is not MISSING]
    scalars = chain.from_iterable(map(_opened, found))
    return (one for one in scalars if isinstance(one, str | int | float) and one is not True)


def _opened(value: Any) -> Iterable[Any]:
    return islice(value, MAX_ELEMENTS) if isinstance(value, _ARRAY) else (value,)


def _keys(given: Any, path: tuple[str, ...]) -> Iterator[frozenset[Key]]:
    """Yield sets of keys: a body that matches meets at least one key of each."""
    if _is_key(given):
        yield frozenset({(path, given)})
    elif isinstance(given, list):
        for element in given:
            yield from _keys(element, path)
    elif isinstance(given, dict):
        for name, part in given.items():
            if name not in OPERATORS:
                yield from _keys(part, (*path, name))
            elif name in ("$eq", "$and"):
                yield from _keys(part, path)
            elif name == "$in" and all(map(_is_key, part)):
                yield frozenset((path, one) for one in part)
            elif name == "$or" and all(choices := [[*_keys(one, path)] for one in part]):
                yield frozenset[Key]().union(*(min(choice, key=len) for choice in choices))


def _is_key(value: Any) -> bool:
    """Return whether a scalar may be a key. Booleans would divide few subscribers."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _names(given: Any) -> Iterator[str]:
    """Yield the names of fields; those of operators are harmless."""
    if isinstance(given, dict):
        yield from given
    if isinstance(given, dict | list):
        for part in given.values() if isinstance(given, dict) else given:
            yield from _names(part)
