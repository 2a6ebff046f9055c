"""When to try again, by the headers of a response.

`Retry-After` (https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3) is delta-seconds or an
HTTP-date. Gateways also write fractions, durations such as `6m0s` and times since 1970, in fields
of their own names: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: Seconds, a day: the longest delay that a service in a hurry accepts.
LONGEST = 86400.0
#: Seconds: the longest delay that `rate_limit_reset` returns. The window of a rate limit is short;
#: that of a daily quota may have been bought anew.
LONGEST_RESET = 600.0

_NUMBER = re.compile(r"[0-9]{1,400}(?:\.[0-9]{0,30})?", re.ASCII)
_DURATION = re.compile(
    r"(?:(?P<days>[0-9]{1,6})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,6})m(?!s))?"
    r"(?:(?P<seconds>[0-9]{1,9}(?:\.[0-9]{0,30})?)s)?"
    r"(?:(?P<milliseconds>[0-9]{1,9}(?:\.[0-9]{0,30})?)ms)?",
    re.ASCII,
)
#: Numbers that are instants, from the year 2001 to 5138: seconds and milliseconds since 1970.
#: As a delay, each is over thirty years.
_EPOCH_SECONDS = range(10**9, 10**11)
_EPOCH_MILLISECONDS = range(10**12, 10**14)
#: Fields for the time at which a limit is reset. `remaining` in place of `reset` names what the
#: limit has left until then.
_RESETS = (
    "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-reset",
    "x-rate-limit-reset", "ratelimit-reset", "x-ratelimit-reset-after",
)  # fmt: skip


def retry_after(
    headers: Mapping[str, str], now: datetime | None, *, longest: float = LONGEST
) -> float | None:
    """Return the seconds until a retry, from 0 to `longest`; None without a valid header.

    `retry-after-ms`, which is finer, goes before `Retry-After`. The headers' names are in lower
    case unless `headers` ignores case. An instant is compared with `now`; without `now` it is
    invalid.
    """
    precise = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(precise):
        return min(float(precise) / 1000, longest)
    return _wait(headers.get("retry-after", ""), now, longest)


def rate_limit_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds until the limits that refused a request are reset, up to `LONGEST_RESET`.

    For a response that says it is about a rate limit: others have these fields too. A limit that
    has something left did not refuse. None if no field names an instant or a duration.
    """
    waits = [
        wait
        for field in _RESETS
        if _is_used_up(headers.get(field.replace("reset", "remaining"), ""))
        and (wait := _wait(headers.get(field, ""), now, LONGEST_RESET)) is not None
    ]
    return max(waits, default=None)


def _is_used_up(remaining: str) -> bool:
    """True for 0, and for a field that is missing or is not a number."""
    number = remaining.strip()
    return not _NUMBER.fullmatch(number) or float(number) < 1


def _wait(value: str, now: datetime | None, longest: float) -> float | None:
    """Return the seconds of a number, a duration or an instant, from 0 to `longest`."""
    value = value.strip()
    if _NUMBER.fullmatch(value):
        number = float(value)
        if int(min(number, 1e15)) in _EPOCH_MILLISECONDS:
            number /= 1000
        elif int(min(number, 1e15)) not in _EPOCH_SECONDS:
            return min(number, longest)
        return None if now is None else _between(number - now.timestamp(), longest)
    if value and (duration := _DURATION.fullmatch(value)):
        parts = {unit: float(number) for unit, number in duration.groupdict(default="0").items()}
        return _between(timedelta(**parts).total_seconds(), longest)
    date = _instant(value)
    if date is None or now is None:
        return None
    return _between((date - now).total_seconds(), longest)


def _between(seconds: float, longest: float) -> float:
    return min(max(seconds, 0.0), longest)


def _instant(value: str) -> datetime | None:
    """Return the instant of an HTTP-date, or of RFC 3339."""
    try:
        date = datetime.fromisoformat(value) if value[:4].isdecimal() else http_date(value)
    except ValueError:
        return None
    return date if date is None or date.tzinfo else date.replace(tzinfo=UTC)


def http_date(value: str) -> datetime | None:
    """Return the instant of an HTTP-date, in UTC where it names no zone; None if it is invalid."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
