"""Filters: their language, against a slow reference; their limits; and the keys that find them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from orchestrator.events.filter_explanation import first_failure
from orchestrator.events.filter_faults import filter_faults
from orchestrator.events.filters import MISSING, compiled, values_at

BODY = {
    "type": "job.succeeded",
    "sequence": 3,
    "data": {
        "account": "main",
        "error": None,
        "duration": 5,
        "a.b": "dotted",
        "tags": ["gift", "sale", 7],
        "matrix": [["in"]],
        "videos": [{"url": "u1", "duration": 4.5}, {"url": "u2", "duration": 9}],
        "metadata": {"tenant": "t1", "vip": True, "count": "5"},
    },
}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, True),
        ({"type": "job.succeeded"}, True),
        ({"data": {"account": "main", "duration": {"$gt": 4, "$lte": 5}}}, True),
        # The type counts: 5 is no "5", true is no 1.
        ({"data": {"duration": 5.0}}, True),
        ({"data": {"duration": "5"}}, False),
        ({"data": {"metadata": {"count": 5}}}, False),
        ({"data": {"metadata": {"vip": 1}}}, False),
        ({"data": {"metadata": {"vip": {"$gt": 0}}}}, False),
        ({"data": {"metadata": {"count": {"$gt": 4}}}}, False),
        ({"data": {"metadata": {"count": {"$gt": "4"}}}}, True),
        # Missing is not null.
        ({"data": {"error": None}}, True),
        ({"data": {"nothing": None}}, False),
        ({"data": {"error": {"$exist": True}}}, True),
        ({"data": {"nothing": {"$exist": False}}}, True),
        ({"data": {"nothing": {"$neq": 1}}}, True),
        ({"data": {"nothing": {"$nin": [1]}}}, True),
        ({"data": {"nothing": {"$lt": 1}}}, False),
        ({"data": {"error": {"code": {"$neq": "vendor_failed"}}}}, True),
        ({"data": {"error": {"code": "vendor_failed"}}}, False),
        ({"data": {"error": {"$lt": 1}}}, False),
        # Arrays contain; a list contains all.
        ({"data": {"tags": "gift"}}, True),
        ({"data": {"tags": {"$gt": 6}}}, True),
        ({"data": {"tags": {"$neq": "gift"}}}, False),
        ({"data": {"tags": {"$in": ["x", "sale"]}}}, True),
        ({"data": {"tags": {"$startsWith": "sa"}}}, True),
        ({"data": {"tags": ["gift", 7]}}, True),
        ({"data": {"tags": ["gift", 8]}}, False),
        ({"data": {"tags": []}}, True),
        ({"data": {"account": ["main"]}}, False),
        ({"data": {"matrix": "in"}}, False),
        ({"data": {"videos": {"url": "u1", "duration": {"$lt": 5}}}}, True),
        ({"data": {"videos": {"url": "u1", "duration": 9}}}, False),
        ({"data": {"videos": [{"url": "u1"}, {"url": "u2"}]}}, True),
        ({"data": {"videos": {"$not": {"url": "u3"}}}}, True),
        # A dot is a part of the name.
        ({"data": {"a.b": "dotted"}}, True),
        ({"data.account": "main"}, False),
        ({"$or": [{"sequence": 1}, {"data": {"account": {"$endsWith": "in"}}}]}, True),
        ({"$and": [{"sequence": 3}, {"$not": {"type": {"$startsWith": "job."}}}]}, False),
        ({"data": {"account": {"$or": ["spare", {"$eq": "main"}]}, "duration": 5}}, True),
        ({"data": {}, "nothing": {}}, True),
    ],
)
def test_a_filter_matches_as_documented(given: Any, wanted: bool) -> None:
    assert filter_faults(given) == []
    assert compiled(json.dumps(given)).matches(BODY) is wanted is reference(given, BODY)


@pytest.mark.parametrize(
    ("given", "pointer", "code"),
    [
        ([], "", "filter_type"),
        ({"data": {"$regex": "x"}}, "/data/$regex", "filter_operator"),
        ({"a/b": {"c~": {"$gt": True}}}, "/a~1b/c~0/$gt", "filter_operand"),
        ({"$or": [{"a": {"$in": []}}]}, "/$or/0/a/$in", "filter_operand"),
        ({"$or": []}, "/$or", "filter_operand"),
        ({"$and": {"a": 1}}, "/$and", "filter_operand"),
        ({"a": {"$in": [[1]]}}, "/a/$in", "filter_operand"),
        ({"a": {"$eq": {}}}, "/a/$eq", "filter_operand"),
        ({"a": {"$exist": None}}, "/a/$exist", "filter_operand"),
        ({"a": {"$startsWith": 1}}, "/a/$startsWith", "filter_operand"),
        ({"a": "x" * 257}, "/a", "filter_text"),
        ({"a": float("inf")}, "/a", "filter_operand"),
        ({"a": {"$nin": ["x" * 200] * 21}}, "", "filter_size"),
        ({f"f{n}": n for n in range(26)}, "", "filter_conditions"),
        (json.loads('{"a":' * 8 + "{}" + "}" * 8), "/a" * 8, "filter_depth"),
        (json.loads('{"a":' * 400 + "{}" + "}" * 400), "/a" * 8, "filter_depth"),
    ],
)
def test_a_filter_beyond_the_language_is_refused_with_a_pointer(
    given: Any, pointer: str, code: str
) -> None:
    (fault,) = filter_faults(given)
    assert (fault.pointer, fault.code) == (pointer, code)


def test_a_filter_at_its_limits_is_accepted() -> None:
    deepest = json.loads('{"a":' * 7 + '{"b":1}' + "}" * 7)
    widest = {f"f{n}": {"$in": ["x"] * 20} for n in range(25)}
    assert filter_faults(deepest) == filter_faults(widest) == []


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"data": {"account": "main"}}, None),
        ({"data": {"account": "main", "duration": {"$gt": 4, "$lt": 5}}}, "/data/duration/$lt"),
        ({"data": {"nothing": {"a/b": 1}}}, "/data/nothing/a~1b"),
        ({"$or": [{"sequence": 1}, {"sequence": 2}]}, "/$or"),
        ({"$and": [{"sequence": 3}, {"sequence": 2}]}, "/$and/1/sequence"),
        ({"data": {"videos": {"url": "u1", "duration": 9}}}, "/data/videos"),
        ({"data": {"tags": ["gift", 8]}}, "/data/tags/1"),
    ],
)
def test_the_first_condition_that_fails_is_named(given: Any, pointer: str | None) -> None:
    found = first_failure(given, BODY)
    assert (found.pointer if found else None) == pointer


def test_filters_agree_with_the_reference_on_random_bodies() -> None:
    """And a body that matches meets each of the filter's keys, or the index would miss it."""
    rng = random.Random(17)
    matched = 0
    for _ in range(6000):
        given, body = {"a": _filter(rng, 3)} | _filter(rng, 3, object_only=True), _body(rng)
        if filter_faults(given):
            continue
        found = compiled(json.dumps(given))
        assert found.matches(body) is reference(given, body), (given, body)
        assert (first_failure(given, body) is None) is found.matches(body)
        if found.matches(body):
            matched += 1
            for keys in found.keys:
                assert any(value in [*values_at(body, path)] for path, value in keys), given
    assert matched > 500


SCALARS = (None, True, False, 0, 1, 1.0, 2, "", "a", "ab", "b", "1")
NAMES = ("a", "b", "c.d")


def _body(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    def value(left: int) -> Any:
        kind = rng.random()
        if left and kind < 0.35:
            return {name: value(left - 1) for name in NAMES if rng.random() < 0.6}
        if left and kind < 0.6:
            return [value(left - 1) for _ in range(rng.randint(0, 3))]
        return rng.choice(SCALARS)

    return {name: value(depth) for name in NAMES if rng.random() < 0.8}


def _filter(rng: random.Random, left: int, *, object_only: bool = False) -> Any:
    kind = rng.random()
    if not object_only and (not left or kind < 0.3):
        return rng.choice(SCALARS)
    if not object_only and kind < 0.35:
        return [_filter(rng, left - 1) for _ in range(rng.randint(0, 2))]
    found: dict[str, Any] = {}
    for _ in range(rng.randint(0 if left else 1, 2)):
        name = rng.choice((*NAMES, "$eq", "$neq", "$gt", "$lte", "$in", "$nin", "$startsWith",
                           "$endsWith", "$exist", "$or", "$and", "$not"))  # fmt: skip
        if name in NAMES or name == "$not":
            found[name] = _filter(rng, left - 1) if left else rng.choice(SCALARS)
        elif name in ("$or", "$and"):
            found[name] = [_filter(rng, max(left - 1, 0)) for _ in range(rng.randint(1, 2))]
        elif name in ("$in", "$nin"):
            found[name] = rng.sample(SCALARS, 2)
        elif name == "$exist":
            found[name] = rng.random() < 0.5
        elif name in ("$startsWith", "$endsWith"):
            found[name] = rng.choice(("", "a", "b"))
        else:
            found[name] = rng.choice((1, 2, "a", "b") if name in ("$gt", "$lte") else SCALARS)
    return found


def reference(given: Any, value: Any) -> bool:
    """The language again: interpreted, slow, and without sharing a line with the compiler."""
    if isinstance(given, list):
        return isinstance(value, list) and all(reference(one, value) for one in given)
    if not isinstance(given, dict):
        return any(_same(one, given) for one in _elements(value))
    fields = {name: part for name, part in given.items() if not name.startswith("$")}
    rest = {name: part for name, part in given.items() if name.startswith("$")}
    if fields and not any(
        all(
            reference(part, one[name] if isinstance(one, dict) and name in one else MISSING)
            for name, part in fields.items()
        )
        for one in _elements(value)
    ):
        return False
    return all(_operator(name, part, value) for name, part in rest.items())


def _elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(one: Any, other: Any) -> bool:
    numbers = (int, float)
    if type(one) in numbers and type(other) in numbers:
        return bool(one == other)
    return type(one) is type(other) and one == other


def _operator(name: str, part: Any, value: Any) -> bool:
    if name == "$exist":
        return (value is not MISSING) is part
    if name == "$not":
        return not reference(part, value)
    if name in ("$or", "$and"):
        found = [reference(one, value) for one in part]
        return any(found) if name == "$or" else all(found)
    if name in ("$neq", "$nin"):
        return not _operator({"$neq": "$eq", "$nin": "$in"}[name], part, value)
    return any(_holds(name, part, one) for one in _elements(value))


def _holds(name: str, part: Any, one: Any) -> bool:
    if name in ("$eq", "$in"):
        return any(_same(one, wanted) for wanted in ([part] if name == "$eq" else part))
    if isinstance(one, bool) or not isinstance(one, str | int | float):
        return False
    if isinstance(one, str) is not isinstance(part, str):
        return False
    if name == "$startsWith":
        return bool(str(one)[: len(part)] == part)
    if name == "$endsWith":
        return bool(str(one)[::-1][: len(part)] == part[::-1])
    return {"$gt": one > part, "$gte": one >= part, "$lt": one < part, "$lte": one <= part}[
        name
    ] is True
