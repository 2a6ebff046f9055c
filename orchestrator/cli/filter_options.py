"""The options `--filter` and `--ordered`, and the body of an event to explain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

#: Bytes of a file that are read: a filter may have 4 KiB, an event a megabyte.
_LONGEST = 1 << 20

Filter = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="JSON|@FILE|none",
        help='Which events of its types: \'{"data": {"account": "main"}}\'; `none`: all.',
    ),
]
Ordered = Annotated[
    bool | None,
    typer.Option("--ordered/--no-ordered", help="The events of one job come one after the other."),
]
EventBody = Annotated[
    str | None, typer.Option(metavar="JSON|@FILE", help="The body of an event, instead of an id.")
]


def json_object(option: str, given: str) -> dict[str, Any]:
    """Return the JSON object of a text, or of `@file`. Raises `typer.BadParameter`."""
    try:
        found = json.loads(_text(given))
    except OSError as error:
        raise typer.BadParameter(f"{given[1:]}: {error.strerror}", param_hint=option) from error
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, json.JSONDecodeError) else "it is not JSON in UTF-8"
        raise typer.BadParameter(why, param_hint=option) from error
    if not isinstance(found, dict):
        raise typer.BadParameter("it is no JSON object", param_hint=option)
    return found


def _text(given: str) -> str:
    if not given.startswith("@"):
        return given
    with Path(given[1:]).open("rb") as file:
        return file.read(_LONGEST).decode()


def filter_fields(wanted: str | None, ordered: bool | None) -> dict[str, Any]:
    """Return the fields `filter` (None: all events) and `ordered` that were given."""
    fields: dict[str, Any] = {} if ordered is None else {"ordered": ordered}
    if wanted is not None:
        fields["filter"] = None if wanted == "none" else json_object("--filter", wanted)
    return fields
