"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from orchestrator.foundation.clock import EPOCH, rfc3339
from orchestrator.foundation.durations import seconds_of
from orchestrator.foundation.errors import ConfigError

#: The longest span (s) that makes sense.
_LONGEST = 100 * 365 * 86_400

Limit = Annotated[int, typer.Option(min=1, max=200)]
After = Annotated[str | None, typer.Option(help="The last id of the previous page.")]


def seconds(option: str, text: str) -> int:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `30d`. Raises `typer.BadParameter`."""
    span = seconds_of(text)
    if span is None:
        raise typer.BadParameter(
            f"{text!r} is not a number of seconds, nor like 15m, 2h, 30d", param_hint=option
        )
    if span > _LONGEST:
        raise typer.BadParameter(f"{text!r} is longer than a hundred years", param_hint=option)
    return span


def ago(option: str, text: str, now: datetime) -> datetime:
    """Return the instant a span before now, 1970 at the earliest: no id is older."""
    return max(EPOCH, now - timedelta(seconds=seconds(option, text)))


def instant(option: str, text: str | None, now: datetime) -> str | None:
    """Return an RFC 3339 time: the one given, or the one a span before now."""
    found = None if text is None else time_or_seconds(option, text)
    return rfc3339(ago(option, f"{found}s", now)) if isinstance(found, int) else found


def time_or_seconds(option: str, text: str) -> str | int:
    """Return an RFC 3339 time unchanged, and a span in seconds. Raises `typer.BadParameter`."""
    if _is_time(text):
        return text
    if seconds_of(text) is None:
        raise typer.BadParameter(
            f"{text!r} is neither a time with a zone, such as 2026-11-20T10:00:00Z,"
            " nor a span, such as 90s, 15m, 2h or 30d",
            param_hint=option,
        )
    return seconds(option, text)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text.upper()).tzinfo is not None
    except ValueError:
        return False


def check_secret(option: str, text: str) -> None:
    """Raise `typer.BadParameter` for what is no signing secret."""
    # Here: most commands have no secret.
    from orchestrator.foundation.signing.standard_webhooks import key_bytes

    try:
        key_bytes(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def pair(option: str, text: str, separator: str = "=") -> tuple[str, str]:
    """Return the name and value of `k=v`. Raises `typer.BadParameter`."""
    name, found, value = text.partition(separator)
    if not (found and name.strip()):
        raise typer.BadParameter(f"{text!r} is not k{separator}v", param_hint=option)
    return name, value


def words(text: str | None) -> list[str] | None:
    """Return the words of a comma separated list; None for None."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
