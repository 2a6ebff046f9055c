"""What is wrong with settings, in one line each: where, what, and what to write instead. Never the value itself."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Where = tuple[str, ...]
#: The type of a fault between fields; its context names the `field` to change.
UNMET: Final = "unmet"


def annotation_at(model: type[BaseModel], path: Where) -> object:
    """Return the type at a path of settings, None where there is no such name."""
    here: object = model
    for part in path:
        here = _bare(here)
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(part)
            here = field.annotation if field else None
        elif typing.get_origin(here) is dict:
            here = typing.get_args(here)[1]
        else:
            return None
    return _bare(here)


def shape_of(model: type[BaseModel], path: Where) -> str:
    """Return "list", "tree" or "word": how a text from the environment is to be read."""
    here = annotation_at(model, path)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return "tree"
    origin = typing.get_origin(here)
    return "list" if origin is list else "tree" if origin is dict else "word"


def fault_lines(
    model: type[BaseModel], error: ValidationError, origins: Mapping[Where, str]
) -> Iterator[str]:
    """Yield a line for each fault of an attempt at `model`."""
    for detail in error.errors(include_url=False, include_input=False, include_context=True):
        path = tuple(str(part) for part in detail["loc"] if part != "[key]")
        if detail["type"] == UNMET:
            path = (*path, str(detail["ctx"]["field"]))
        dotted = ".".join(path) or "settings"
        origin = _origin(path, origins)
        written = f" ({origin})" if origin else ""
        yield f"{dotted}{written}: {_words(model, path, detail)}"


def _words(model: type[BaseModel], path: Where, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(model, path)
    if detail["type"] == "missing":
        return "required; write it"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return detail["msg"].replace("Input should be", "must be").replace("should have", "must have")


def _unknown(model: type[BaseModel], path: Where) -> str:
    parent = annotation_at(model, path[:-1])
    known = (
        list(parent.model_fields)
        if isinstance(parent, type) and issubclass(parent, BaseModel)
        else []
    )
    nearest = difflib.get_close_matches(path[-1], known, n=1, cutoff=0)
    return (
        f"there is no such setting; did you mean {'.'.join((*path[:-1], nearest[0]))}?"
        if nearest
        else "not known"
    )


def _origin(path: Where, origins: Mapping[Where, str]) -> str:
    """Return where the fault was written: the leaf itself, else the first leaf below or the last above it."""
    for length in range(len(path), 0, -1):
        for leaf, origin in origins.items():
            if leaf[:length] == path[:length]:
                return origin
    return ""


def _bare(annotation: object) -> object:
    """Return a type without what `Annotated` says about it."""
    return (
        typing.get_args(annotation)[0]
        if typing.get_origin(annotation) is typing.Annotated
        else annotation
    )
