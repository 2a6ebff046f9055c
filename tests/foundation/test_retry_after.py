"""`Retry-After`: delta-seconds or an HTTP-date, at most a day, and no exception for any value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation.retry_after import LONGEST, http_date, retry_after

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("9" * 400, LONGEST),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Fri, 20 Nov 2026 10:01:00", 60.0),
        ("Fri, 20 Nov 2026 10:01:00 -0000", 60.0),
        ("Fri, 20 Nov 2026 12:01:00 +0200", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
    ],
)
def test_it_is_seconds_or_a_date_and_at_most_a_day(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


def test_without_a_header_there_is_no_delay() -> None:
    assert retry_after({}, NOW) is None


def test_without_a_present_time_only_seconds_are_valid() -> None:
    assert retry_after({"retry-after": "7"}, None) == 7.0
    assert retry_after({"retry-after": format_datetime(NOW, usegmt=True)}, None) is None


DATES = st.from_regex(
    r"[A-Z][a-z]{2}, [0-9]{1,3} (Jan|Dec|Foo) [0-9]{1,5} [0-9:]{0,9} [+\-][0-9]{1,9}"
)


@given(value=st.text() | DATES)
def test_no_value_raises_or_leaves_the_bounds(value: str) -> None:
    seconds = retry_after({"retry-after": value}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST
    date = http_date(value)
    assert date is None or date.tzinfo is not None
