"""Request mappings: tables that say where each input field goes in a vendor's request body.

`check_fields` refuses what a mapping cannot carry, before a request is sent. `build_body` writes
every given field to its target and merges `extra`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.foundation.errors import Unsupported
from orchestrator.foundation.json_codec import encode, parse, walk

_MAX_DEPTH = 32
_OWN_FIELDS = ("callback_url", "external_task_id")


@dataclass(frozen=True, slots=True)
class FieldTarget:
    """Where a field goes in a vendor's body, and how its value is encoded there.

    Dots descend (`settings.duration`). A path that ends in `[]` extends the list there with the
    encoded list; an empty path merges the encoded object into the body. `encode` raises ValueError
    for a value that it cannot encode; its message completes a sentence that begins with the field.
    """

    path: str
    encode: Callable[[Any], Any] | None = None


Fields = Mapping[str, str | FieldTarget]


@dataclass(frozen=True, slots=True)
class RequestMapping:
    """How one capability is requested.

    A plain string in `fields` is a path that takes the value unchanged; their order is the order in
    the body. `required` fields must be given; of each group in `exclusive`, only one may be. In
    both, `prompt|shots` means either. `check` raises `Unsupported` for what a vendor and the given
    fields cannot mean together. `finish` completes the body before `extra` is merged.
    """

    path: str
    fields: Fields
    required: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    check: Callable[[str, Mapping[str, Any]], None] | None = None
    finish: Callable[[dict[str, Any]], None] | None = None


def check_fields(vendor: str, mapping: RequestMapping, given: Mapping[str, Any]) -> None:
    """Raise `Unsupported` for the first field that is unknown, cannot be encoded, or is missing."""
    for name, value in given.items():
        if name == "extra":
            continue
        if name not in mapping.fields:
            why = f"{vendor} has no field for {name!r} in this capability"
            raise Unsupported(f"input/{name}", why)
        encode_field(vendor, mapping, name, value)
    for either in mapping.required:
        if not _first_given(either, given):
            names = either.split("|")
            why = f"{vendor} needs {' or '.join(names)} for this capability"
            raise Unsupported(f"input/{names[0]}", why)
    for group in mapping.exclusive:
        present = [name for either in group if (name := _first_given(either, given))]
        if len(present) > 1:
            why = f"{vendor} cannot take {present[-1]} together with {present[0]}"
            raise Unsupported(f"input/{present[-1]}", why)


def _first_given(either: str, given: Mapping[str, Any]) -> str:
    return next((name for name in either.split("|") if name in given), "")


def check_extra(vendor: str, extra: Any, reserved: tuple[str, ...]) -> None:
    """Raise `Unsupported` if `extra` sets the callback or the external id, or is not valid JSON.

    `reserved` are the dotted paths of the two in the vendor's body, "" for none: `extra` may not
    replace an object on these paths.
    """
    for depth, _, key, value in walk(extra):
        if key in _OWN_FIELDS:
            why = f"extra may not set {key} for {vendor}: orchestrator sets it itself"
        elif depth > _MAX_DEPTH:
            why = f"extra for {vendor} may nest {_MAX_DEPTH} levels deep"
        elif isinstance(value, float) and not math.isfinite(value):
            why = f"extra for {vendor} holds a number that JSON does not have"
        else:
            continue
        raise Unsupported("input/extra", why)
    for path in reserved:
        place = extra
        for parent in path.split(".")[:-1]:
            if parent not in place:
                break
            place = place[parent]
            if not isinstance(place, Mapping):
                why = f"extra may not replace {parent} for {vendor}: it holds {path}"
                raise Unsupported("input/extra", why)


def encode_field(vendor: str, mapping: RequestMapping, name: str, value: Any) -> tuple[str, Any]:
    """Return the path of `name` and its value as the vendor takes it. Raises `Unsupported`."""
    target = mapping.fields[name]
    if isinstance(target, str):
        return target, value
    try:
        return target.path, target.encode(value) if target.encode else value
    except ValueError as error:
        raise Unsupported(f"input/{name}", f"{vendor}: {name} {error}") from error


def build_body(vendor: str, mapping: RequestMapping, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the vendor's body: every given field at its target, then `extra` merged in.

    `given` is not modified. Raises `Unsupported`.
    """
    body: dict[str, Any] = {}
    # A deep copy, at a tenth of the cost of `copy.deepcopy`.
    given = parse(encode(dict(given)))
    for name in mapping.fields:
        if name in given:
            put(body, *encode_field(vendor, mapping, name, given[name]))
    if mapping.finish:
        mapping.finish(body)
    merge(body, given.get("extra", {}))
    return body


def put(body: dict[str, Any], path: str, value: Any) -> None:
    """Set `value` at the path of a `FieldTarget`, and create the objects on the way."""
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
    """Merge `extra` into `body` in depth: objects are merged, anything else is replaced."""
    for key, value in extra.items():
        present = body.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            merge(present, value)
        else:
            body[key] = value


def whole_seconds(value: float) -> int:
    """Return the seconds as an int. Raises ValueError for a fraction."""
    if value != int(value):
        raise ValueError(f"takes whole seconds, not {value}")
    return int(value)


def seconds_text(value: float) -> str:
    """Return the seconds as a string (`5` -> `"5"`), as Kling's legacy standard takes them."""
    return str(whole_seconds(value))


def choice(yes: str, no: str) -> Callable[[bool], str]:
    """Return an encoder of booleans as two words of the vendor."""
    return lambda value: yes if value else no


def at_most(characters: int) -> Callable[[str], str]:
    """Return an encoder that passes texts of up to `characters` characters."""

    def encode(value: str) -> str:
        if len(value) > characters:
            raise ValueError(f"takes {characters} characters, not {len(value)}")
        return value

    return encode
