"""The options of a subscriber's retry policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.options import words
from orchestrator.cli.terminal import Record
from orchestrator.schemas import SubscriberRetry

RetrySchedule = Annotated[
    str | None,
    typer.Option(metavar="5s,5m,2h|none", help="Waits between attempts; `none`: as the settings."),
]
RetryDeadline = Annotated[
    str | None, typer.Option(metavar="SECONDS|none", help="For one attempt, up to 120.")
]
RetryFinal = Annotated[
    str | None,
    typer.Option(metavar="400,404|none", help="Statuses after which a delivery is dead at once."),
]


def retry_field(
    schedule: str | None,
    deadline: str | None,
    final: str | None,
    current: SubscriberRetry | None = None,
) -> Record:
    """Return the field `retry` if an option was given; the others keep their values."""
    texts = {"schedule": schedule, "deadline": deadline, "final_statuses": final}
    given = {name: _value(name, text) for name, text in texts.items() if text is not None}
    if not given:
        return {}
    before = {name: getattr(current, name) for name in texts} if current else {}
    retry = {name: value for name, value in (before | given).items() if value is not None}
    return {"retry": retry or None}


def _value(name: str, text: str) -> Any:
    """Return the value of an option, None for `none`. Raises `typer.BadParameter`."""
    if text == "none":
        return None
    option, read = _READ[name]
    try:
        return read(text)
    except ValueError as error:
        message = f"{text!r} is not a number, nor `none`"
        raise typer.BadParameter(message, param_hint=option) from error


def _statuses(text: str) -> list[int]:
    return [int(word) for word in words(text) or []]


#: The option of each field, and how its text is read. Waits are judged by the server.
_READ: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "schedule": ("--retry-schedule", words),
    "deadline": ("--retry-deadline", float),
    "final_statuses": ("--retry-final", _statuses),
}
