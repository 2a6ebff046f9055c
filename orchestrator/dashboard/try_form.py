"""The form of a submission: the fields of an account, their texts, and the body they make.

What a text may say is judged by the API; here it only becomes JSON of the right type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.dashboard import formats
from orchestrator.foundation.errors import NotJson
from orchestrator.foundation.json_codec import Raw, parse
from orchestrator.vendors.order import Input

Json = dict[str, Any]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?")
#: Characters of a field from which on it is several lines high.
_LONG = 1000


class NotAValue(Exception):
    """A text is not of the type of its field. `key` is that of the message in the catalogue."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class Field:
    """A field of `input`: what its control is, and whether the dialect needs it.

    `kind` is `text`, `line`, `url`, `number`, `switch`, `lines` or `json`. `either`: the fields of
    which one is needed, if this is one of them.
    """

    name: str
    kind: str
    is_required: bool
    either: tuple[str, ...]


def fields(taken: Json) -> list[Field]:
    """Return the fields of a capability, those that are needed first; `extra` is the last."""
    groups = [tuple(group.split("|")) for group in taken["required"]]
    by_name = {name: group for group in groups for name in group}
    names = sorted(taken["fields"], key=lambda name: name not in by_name)
    return [
        Field(
            name,
            kind(name),
            is_required=len(by_name.get(name, ())) == 1,
            either=group if len(group := by_name.get(name, ())) > 1 else (),
        )
        for name in [*names, "extra"]
    ]


def kind(name: str) -> str:
    """Return the kind of a field; an unknown one holds JSON."""
    return _KINDS.get(name, "json")


def value(kind: str, text: str) -> Any:
    """Return the JSON value of a text. Raises `NotAValue`."""
    convert = _VALUES.get(kind)
    return convert(text) if convert else text


def _number(text: str) -> Any:
    if not _NUMBER.fullmatch(text):
        raise NotAValue("try.fault.number")
    return Raw(text.encode())


def _json(text: str) -> Any:
    try:
        parse(text.encode())
    except NotJson:
        raise NotAValue("try.fault.json") from None
    # As it was typed: numbers keep their digits.
    return Raw(text.encode())


_VALUES: Mapping[str, Callable[[str], Any]] = {
    "number": _number,
    "json": _json,
    "switch": lambda text: text == "true",
    "lines": lambda text: [line.strip() for line in text.splitlines() if line.strip()],
}


def texts(job: Json) -> dict[str, str]:
    """Return the texts of a form that repeats the input of a job."""
    return {name: _text(name, given) for name, given in job["input"].items()}


def _text(name: str, given: Any) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    if _KINDS.get(name) == "lines" and isinstance(given, list):
        return "\n".join(map(str, given))
    return given if isinstance(given, str) else formats.readable(given)


def _kind(name: str, schema: Json) -> str:
    """Return the kind of a field by the first type that its JSON Schema allows."""
    first = schema["anyOf"][0]
    if name.endswith("_url") or name == "static_mask":
        return "url"
    if first.get("type") == "string":
        return "text" if first["maxLength"] >= _LONG else "line"
    if first.get("type") == "array" and first["items"].get("type") == "string":
        return "lines"
    return {"number": "number", "boolean": "switch"}.get(first.get("type", ""), "json")


#: By field of the vocabulary.
_KINDS = {
    name: _kind(name, schema) for name, schema in Input.model_json_schema()["properties"].items()
}
