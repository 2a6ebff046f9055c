"""When the next status query of a job is due: late while pushes come, sooner when they do not."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after
from orchestrator.foundation.settings.accounts import Poll
from orchestrator.foundation.states import AT_VENDOR, FINAL, Source
from orchestrator.jobs.query_economy import Expectation, fixed_gap
from orchestrator.vendors.contract import Vendor

#: Seconds before the deadline of a job at which it is asked about for the last time.
_BEFORE_DEADLINE = 10.0


class QueryColumns(TypedDict):
    """The columns of `job` that decide when the next status query may be. A row has them too."""

    due_at: datetime | None
    queried_at: datetime | None


class QueryChanges(TypedDict, total=False):
    """The columns of `job` that the schedule sets."""

    asks: int
    misses: int
    due_at: datetime | None
    alive_at: datetime


def poll_settings(vendor: Vendor | None) -> Poll:
    """Return the settings of an account, the defaults for one that is no longer configured."""
    return vendor.account.poll if vendor else Poll()


def after_report(
    row: JobRow,
    source: Source,
    vendor: Vendor | None,
    now: datetime,
    expected: Expectation | None = None,
) -> QueryChanges:
    """Return when the next status query of a live job is due.

    As soon as what is `expected` of the job makes a query worth it, and once before its deadline.
    As long as too little is known, a push restarts the wait at `first_after`, and each answer to a
    query makes it longer, up to `max_interval`. So it is for a job that has ended without output:
    it is not its end that is waited for.
    """
    if row["state"] in FINAL:
        return {}
    poll = poll_settings(vendor)
    asked = source in (Source.POLL, Source.LOOKUP)
    asks = row["asks"] + 1 if asked else 0
    age = max(0.0, (now - (row["submitted_at"] or now)).total_seconds())
    if row["outputless_since"] is not None:
        expected = None
    due = expected.next_query(age, poll.max_interval) if expected else None
    if due is None:
        wait = fixed_gap(poll, row["asks"]) if asked else poll.first_after
    else:
        wait = due - age
    last = (row["deadline_at"] - now).total_seconds() - _BEFORE_DEADLINE
    if wait > last >= _BEFORE_DEADLINE:
        wait = last
    return {"asks": asks, "misses": 0, "due_at": after(now, wait), "alive_at": now}


def query_soon(row: JobRow, vendor: Vendor | None, now: datetime) -> QueryChanges:
    """Return when a push that says nothing certain makes a job due for a status query.

    A job that is claimed for one keeps its claim: another process would send the query too.
    """
    if row["claimed_by"] is not None and row["state"] in AT_VENDOR:
        return {"due_at": row["due_at"]}
    return {"due_at": next_query(row, poll_settings(vendor), now)}


def next_query(row: QueryColumns, poll: Poll, now: datetime) -> datetime:
    """Return when a push that says nothing certain makes a job due for a status query.

    At once, but not within `interval` of the last query: the holder of a token must not be able to
    flood the vendor through us.
    """
    last, due = row["queried_at"], row["due_at"]
    soon = now if last is None else after(last, poll.interval)
    return max(now, soon if due is None else min(due, soon))
