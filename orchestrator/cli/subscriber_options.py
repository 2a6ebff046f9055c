"""The options of a subscriber's fields, and how their values are read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.completers import KINDS, SUBSCRIBERS
from orchestrator.cli.options import pair
from orchestrator.cli.terminal import Record

#: Begins the name of an environment variable that holds a credential.
_VARIABLE = "CREDENTIAL_"
#: Bytes of a file with a credential.
_LONGEST = 16_384

SubscriberId = Annotated[
    str,
    typer.Argument(
        metavar="SUB",
        help="A subscriber's id, or the beginning of one.",
        autocompletion=SUBSCRIBERS,
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        help="As the address shows, or `webhook`; `orchestrator destinations ls` lists all.",
        autocompletion=KINDS,
    ),
]
Description = Annotated[str | None, typer.Option(help="What it is for.")]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="K:V", help="Sent with every delivery; may be repeated."),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="K=V", help="Of its kind: format=cloudevents; repeatable."),
]
Credentials = Annotated[
    list[str] | None,
    typer.Option(
        "--credential",
        metavar="NAME[=VALUE|=@FILE]",
        help=f"A secret of its kind; may be repeated. A name alone is read from {_VARIABLE}NAME.",
    ),
]
RateLimit = Annotated[float | None, typer.Option(min=0.01, help="Deliveries per second.")]
NewRateLimit = Annotated[str | None, typer.Option(metavar="N|none", help="Deliveries per second.")]
InFlight = Annotated[int | None, typer.Option(min=1, help="Deliveries at once.")]


def _pairs(option: str, given: list[str] | None, separator: str) -> dict[str, str] | None:
    """Return `k:v` or `k=v` words as a mapping; None without any."""
    found = (pair(option, word, separator) for word in given or [])
    return {name.strip(): value.strip() for name, value in found} or None


def _credential(word: str) -> tuple[str, str]:
    """Return the name and value of `name=value`, `name=@file` or `name`. Errors show no value."""
    name, found, value = word.partition("=")
    if not name.isidentifier():
        raise typer.BadParameter(
            "write NAME=VALUE, NAME=@FILE, or NAME with the value in the environment",
            param_hint="--credential",
        )
    if not found:
        return name, _from_environment(name)
    return name, _from_file(value[1:]) if value.startswith("@") else value


def _from_environment(name: str) -> str:
    variable = _VARIABLE + name.upper()
    if not (value := os.environ.get(variable)):
        raise typer.BadParameter(
            f"{name} has no value: set {variable}, or write {name}=@FILE", param_hint="--credential"
        )
    return value


def _from_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_LONGEST).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise typer.BadParameter(f"{path}: {why}", param_hint="--credential") from error


def kind_and_url(kind: str | None, url: str) -> Record:
    """Return the fields of an address, which may name its kind: `slack:https://...`."""
    prefixed = re.fullmatch(r"([a-z][a-z0-9_]*):(https?://.*)", url)
    if prefixed is None:
        return {"kind": kind, "url": url}
    return {"kind": kind or prefixed[1], "url": prefixed[2]}


def fields(
    *,
    headers: list[str] | None,
    options: list[str] | None,
    credentials: list[str] | None,
    **plain: object,
) -> Record:
    """Return the fields of a body that are given. Raises `typer.BadParameter`."""
    body: Record = {
        **plain,
        "headers": _pairs("--header", headers, ":"),
        "options": _pairs("--option", options, "="),
        "credentials": dict(map(_credential, credentials or [])) or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def rate_field(text: str | None) -> Record:
    """Return the field `rate_limit` if it was given: None for `none`."""
    if text is None:
        return {}
    try:
        return {"rate_limit": None if text == "none" else float(text)}
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a number, nor `none`", param_hint="--rate-limit"
        ) from error
