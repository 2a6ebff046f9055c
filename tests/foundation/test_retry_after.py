"""When to try again: numbers, durations and instants, bounded, and no exception for any value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation.retry_after import (
    LONGEST,
    LONGEST_RESET,
    http_date,
    rate_limit_reset,
    retry_after,
)

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("9" * 400, LONGEST),
        ("-5", None),
        ("1.5", 1.5),
        ("0.", 0.0),
        (".5", None),
        ("soon", None),
        ("²", None),
        ("1e9", None),
        ("inf", None),
        ("90s", 90.0),
        ("1m30.5s", 90.5),
        ("1h", 3600.0),
        ("20ms", 0.02),
        ("1d1s", LONGEST),
        ("1s1m", None),
        (str(int(NOW.timestamp()) + 8), 8.0),
        (str(int(NOW.timestamp()) - 8), 0.0),
        (str(int(NOW.timestamp() * 1000) + 8_500), 8.5),
        ("2026-11-20T10:01:00Z", 60.0),
        ("2026-11-20T10:01:00", 60.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Fri, 20 Nov 2026 10:01:00", 60.0),
        ("Fri, 20 Nov 2026 10:01:00 -0000", 60.0),
        ("Fri, 20 Nov 2026 12:01:00 +0200", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ],
)
def test_it_is_a_number_a_duration_or_an_instant_and_at_most_a_day(
    value: str, seconds: float | None
) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_without_a_header_there_is_no_delay() -> None:
    assert retry_after({}, NOW) is None


def test_without_a_present_time_only_seconds_are_valid() -> None:
    assert retry_after({"retry-after": "7"}, None) == 7.0
    assert retry_after({"retry-after": format_datetime(NOW, usegmt=True)}, None) is None
    assert retry_after({"retry-after": str(int(NOW.timestamp()))}, None) is None


def test_milliseconds_go_before_seconds() -> None:
    both = {"retry-after": "8", "retry-after-ms": "7500"}
    assert retry_after(both, NOW) == 7.5
    assert retry_after(both | {"retry-after-ms": "soon"}, NOW) == 8.0


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"reset": "7.5"}, 7.5),
        ({"reset": str(int(NOW.timestamp()) + 8)}, 8.0),
        ({"reset": "6m0s"}, 360.0),
        ({"reset": "86400"}, LONGEST_RESET),
        ({"reset": "soon"}, None),
        ({"reset": "60", "remaining": "12"}, None),
        ({"reset": "60", "remaining": "0"}, 60.0),
        ({"reset-requests": "1s", "reset-tokens": "9s"}, 9.0),
        (
            {
                "reset-requests": "1s", "remaining-requests": "0",
                "reset-tokens": "9s", "remaining-tokens": "100",
            },
            1.0,
        ),
    ],
)  # fmt: skip
def test_a_limit_that_is_used_up_says_when_it_is_reset(
    fields: dict[str, str], seconds: float | None
) -> None:
    headers = {f"x-ratelimit-{name}": value for name, value in fields.items()}
    assert rate_limit_reset(headers, NOW) == seconds


DATES = st.from_regex(
    r"[A-Z][a-z]{2}, [0-9]{1,3} (Jan|Dec|Foo) [0-9]{1,5} [0-9:]{0,9} [+\-][0-9]{1,9}"
)


DURATIONS = st.from_regex(r"([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9.]{1,400}m?s?)?", fullmatch=True)


@given(value=st.text() | DATES | DURATIONS)
def test_no_value_raises_or_leaves_the_bounds(value: str) -> None:
    seconds = retry_after({"retry-after": value}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST
    reset = rate_limit_reset({"x-ratelimit-reset": value}, NOW)
    assert reset is None or 0 <= reset <= LONGEST_RESET
    date = http_date(value)
    assert date is None or date.tzinfo is not None
