"""Faults of settings in one line each: where, what, and what to write instead. Never the value."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

KeyPath = tuple[str, ...]
#: The type of a fault between fields; its context names the `field` to change.
UNMET: Final = "unmet"


def annotation_at(model: type[BaseModel], path: KeyPath) -> object:
    """Return the type at a path of settings, None where there is no such name."""
    here: object = model
    for part in path:
        here = _bare(here)
        if _is_model(here):
            field = _fields(here).get(part)
            here = field.annotation if field else None
        elif typing.get_origin(here) is dict:
            here = typing.get_args(here)[1]
        else:
            return None
    return _bare(here)


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by the name that a reader writes."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def shape_of(model: type[BaseModel], path: KeyPath) -> str:
    """Return "list", "tree" or "text": how a text from the environment is read."""
    here = annotation_at(model, path)
    if _is_model(here):
        return "tree"
    origin = typing.get_origin(here)
    return "list" if origin is list else "tree" if origin is dict else "text"


def fault_lines(
    model: type[BaseModel], error: ValidationError, origins: Mapping[KeyPath, str]
) -> Iterator[str]:
    """Yield a line for each fault of an attempt at `model`."""
    for detail in error.errors(include_url=False, include_input=False, include_context=True):
        path = tuple(str(part) for part in detail["loc"] if part != "[key]")
        if detail["type"] == UNMET:
            path = (*path, str(detail["ctx"]["field"]))
        dotted = ".".join(path) or "settings"
        origin = _origin(path, origins)
        written = f" ({origin})" if origin else ""
        yield f"{dotted}{written}: {_message(model, path, detail)}"


def _message(model: type[BaseModel], path: KeyPath, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(model, path)
    if detail["type"] == "missing":
        return "required; write it"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return detail["msg"].replace("Input should be", "must be").replace("should have", "must have")


def _unknown(model: type[BaseModel], path: KeyPath) -> str:
    parent = annotation_at(model, path[:-1])
    known = list(_fields(parent)) if _is_model(parent) else []
    nearest = difflib.get_close_matches(path[-1], known, n=1, cutoff=0)
    if not nearest:
        return "not known"
    return f"there is no such setting; did you mean {'.'.join((*path[:-1], nearest[0]))}?"


def _origin(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Return the origin of a fault: of its leaf, else of the first leaf below or the last above."""
    for length in range(len(path), 0, -1):
        for leaf, origin in origins.items():
            if leaf[:length] == path[:length]:
                return origin
    return ""


def _is_model(annotation: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _bare(annotation: object) -> object:
    """Return a type without its `Annotated` metadata."""
    is_annotated = typing.get_origin(annotation) is typing.Annotated
    return typing.get_args(annotation)[0] if is_annotated else annotation
