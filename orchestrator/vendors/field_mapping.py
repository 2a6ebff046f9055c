"""How an order is written down in a dialect: a `Form` is a table of places, and this module walks it.

check_form   refuses what the form cannot carry, before anything is sent
placed       writes every given field at its place and merges `extra`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from orchestrator.foundation.errors import Unsupported

_DEEPEST = 32
_OURS = ("callback_url", "external_task_id")


@dataclass(frozen=True, slots=True)
class FieldTarget:
    """Where a field goes in a vendor's body, and how its value is spelled there.

    Dots descend (`settings.duration`). A path that ends in `[]` adds the spelled list to the list there; an empty path
    merges the spelled object into the body. `spell` raises ValueError, with the rest of a sentence, for a value it has
    no word for.
    """

    path: str
    spell: Callable[[Any], Any] | None = None


Fields = Mapping[str, str | FieldTarget]


@dataclass(frozen=True, slots=True)
class RequestMapping:
    """How one capability is asked for.

    A plain string in `fields` is a path with the value as it is; their order is the order in the body. `required`: it
    does not go without. `exclusive`: groups of which only one may be given. In both, `prompt|shots` means either.
    `finish` completes the body before `extra` is merged.
    """

    path: str
    fields: Fields
    required: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    finish: Callable[[dict[str, Any]], None] | None = None


def check_fields(vendor: str, form: RequestMapping, given: Mapping[str, Any]) -> None:
    """Raise `Unsupported` for the first field that the form cannot carry, or lacks, or cannot spell."""
    for name, value in given.items():
        if name == "extra":
            continue
        if name not in form.fields:
            raise Unsupported(
                f"input/{name}", f"{vendor} has no field for {name!r} in this capability"
            )
        encode_field(vendor, form, name, value)
    for either in form.required:
        names = either.split("|")
        if not any(name in given for name in names):
            raise Unsupported(
                f"input/{names[0]}", f"{vendor} needs {' or '.join(names)} for this capability"
            )
    for group in form.exclusive:
        first, *more = [found for either in group if (found := _first(either, given))] or [""]
        if more:
            raise Unsupported(
                f"input/{more[-1]}", f"{vendor} cannot take {more[-1]} together with {first}"
            )


def _first(either: str, given: Mapping[str, Any]) -> str:
    return next((name for name in either.split("|") if name in given), "")


def check_extra(vendor: str, extra: Any, reserved: tuple[str, ...]) -> None:
    """Raise `Unsupported` if `extra` touches the callback or the external id, or is no JSON a vendor could read.

    `reserved` are the dotted paths of the two in the vendor's body: no object on the way to them may be replaced.
    """
    for depth, key, value in _walk(extra):
        if key in _OURS:
            raise Unsupported(
                "input/extra", f"extra may not set {key} for {vendor}: orchestrator sets it itself"
            )
        if depth > _DEEPEST:
            raise Unsupported("input/extra", f"extra for {vendor} may nest {_DEEPEST} levels deep")
        if isinstance(value, float) and not math.isfinite(value):
            raise Unsupported(
                "input/extra", f"extra for {vendor} holds a number that JSON does not have"
            )
    for path in reserved:
        _check_way(vendor, extra, path)


def _walk(value: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield the depth, key and value of everything in `value`, without recursion: callers nest as they like."""
    waiting = [(0, "", value)]
    while waiting:
        depth, key, value = waiting.pop()
        yield depth, key, value
        if isinstance(value, Mapping):
            waiting.extend((depth + 1, name, item) for name, item in value.items())
        elif isinstance(value, list):
            waiting.extend((depth + 1, "", item) for item in value)


def _check_way(vendor: str, extra: Any, path: str) -> None:
    *parents, _ = path.split(".")
    for parent in parents:
        if parent not in extra:
            return
        extra = extra[parent]
        if not isinstance(extra, Mapping):
            raise Unsupported(
                "input/extra", f"extra may not replace {parent} for {vendor}: it holds {path}"
            )


def encode_field(vendor: str, form: RequestMapping, name: str, value: Any) -> tuple[str, Any]:
    """Return where `name` goes and its value in the vendor's spelling; raises `Unsupported` if there is none."""
    place = form.fields[name]
    if isinstance(place, str):
        return place, value
    try:
        return place.path, place.spell(value) if place.spell else value
    except ValueError as error:
        raise Unsupported(f"input/{name}", f"{vendor}: {name} {error}") from error


def build_body(vendor: str, form: RequestMapping, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the vendor's body: every given field at its place, then `extra` merged in. `given` stays as it is."""
    body: dict[str, Any] = {}
    given = deepcopy(dict(given))
    for name in form.fields:
        if name in given:
            path, said = encode_field(vendor, form, name, given[name])
            put(body, path, said)
    if form.finish:
        form.finish(body)
    merge(body, given.get("extra", {}))
    return body


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """Set `value` at a `Place`'s path, making the objects on the way."""
    if not path:
        merge(body, value)
        return
    *parents, last = path.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
    if last.endswith("[]"):
        body.setdefault(last[:-2], []).extend(value)
    else:
        body[last] = value


def merge(body: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Merge `extra` into `body`: objects meet, anything else is replaced."""
    for key, value in extra.items():
        mine = body.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            merge(mine, value)
        else:
            body[key] = value


def whole_seconds(value: float) -> int:
    """Return the seconds as an int. Raises ValueError for a fraction."""
    if value != int(value):
        raise ValueError(f"takes whole seconds, not {value}")
    return int(value)


def seconds_text(value: float) -> str:
    """Return the seconds as a string (`5` -> `"5"`), as Kling's legacy standard spells them."""
    return str(whole_seconds(value))


def choice(yes: str, no: str) -> Callable[[bool], str]:
    """Return a speller of booleans in two vendor words."""
    return lambda value: yes if value else no


def at_most(characters: int) -> Callable[[str], str]:
    """Return a speller that passes texts of up to so many characters."""

    def spell(value: str) -> str:
        if len(value) > characters:
            raise ValueError(f"takes {characters} characters, not {len(value)}")
        return value

    return spell
