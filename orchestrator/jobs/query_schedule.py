"""When the next status query of a job is due: late while pushes come, sooner when they do not."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after, backoff
from orchestrator.foundation.settings.accounts import Poll
from orchestrator.foundation.states import AT_VENDOR, FINAL, Source
from orchestrator.vendors.contract import Vendor


class QueryColumns(TypedDict):
    """The columns of `job` that decide when the next status query may be. A row has them too."""

    due_at: datetime | None
    queried_at: datetime | None


class QueryChanges(TypedDict, total=False):
    """The columns of `job` that the schedule sets."""

    asks: int
    misses: int
    due_at: datetime | None


def poll_settings(vendor: Vendor | None) -> Poll:
    """Return the settings of an account, the defaults for one that is no longer configured."""
    return vendor.account.poll if vendor else Poll()


def after_report(row: JobRow, source: Source, vendor: Vendor | None, now: datetime) -> QueryChanges:
    """Return when the next status query of a live job is due.

    A push restarts the wait at `first_after`; each answer to a query makes it longer, up to
    `max_interval`.
    """
    if row["state"] in FINAL:
        return {}
    poll = poll_settings(vendor)
    if source in (Source.POLL, Source.LOOKUP):
        wait = backoff(poll.interval, row["asks"], factor=1.5, most=poll.max_interval)
        return {"asks": row["asks"] + 1, "misses": 0, "due_at": after(now, wait)}
    return {"asks": 0, "misses": 0, "due_at": after(now, poll.first_after)}


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
