"""The `Retry-After` header (RFC 9110 section 10.2.3): delta-seconds or an HTTP-date.

https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Seconds, a day: the longest delay that a service in a hurry accepts.
LONGEST = 86400.0


def retry_after(
    headers: Mapping[str, str], now: datetime | None, *, longest: float = LONGEST
) -> float | None:
    """Return the seconds until a retry, from 0 to `longest`; None without a valid header.

    The header's name is in lower case unless `headers` ignores case. A date is compared with
    `now`; without `now` a date is invalid.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:9]), longest)
    date = http_date(value)
    if date is None or now is None:
        return None
    return min(max((date - now).total_seconds(), 0.0), longest)


def http_date(value: str) -> datetime | None:
    """Return the instant of an HTTP-date, in UTC where it names no zone; None if it is invalid."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
