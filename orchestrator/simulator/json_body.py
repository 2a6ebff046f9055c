"""JSON bodies: their types, and access to their fields."""

from __future__ import annotations

import json
from typing import TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, JSON]


def parse_object(raw: bytes) -> JsonObject:
    """Return the JSON object in `raw`. Raises `ValueError` for anything else."""
    body: JSON = json.loads(raw)
    if not isinstance(body, dict):
        raise ValueError("body: must be an object")
    return body


def string_at(body: JsonObject, name: str) -> str | None:
    """Return a field's string, or None where it holds no string."""
    value = body.get(name)
    return value if isinstance(value, str) else None


def object_at(body: JsonObject, name: str) -> JsonObject:
    """Return a field's object; an empty object where it holds none."""
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def objects_at(body: JsonObject, name: str) -> list[JsonObject]:
    """Return the objects in a field's array; an empty list where it holds no array."""
    value = body.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def select(record: object, *names: str) -> JsonObject:
    """Return these attributes of a record."""
    return {name: getattr(record, name) for name in names}
