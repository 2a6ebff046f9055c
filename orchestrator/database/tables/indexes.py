"""Partial indexes: pending rows, dead rows, rows without a common value. Other rows cost nothing.

Both databases use such an index where a statement implies its condition; SQLite compares the text.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from orchestrator.foundation.states import DeliveryState, EventType, JobState, Source

#: The values that most rows end with in a column; the other rows have a partial index.
COMMON: Mapping[tuple[str, str], frozenset[str]] = {
    ("job", "state"): frozenset({JobState.SUCCEEDED}),
    ("job", "resolved_by"): frozenset({Source.PUSH}),
    ("event", "type"): frozenset(
        {EventType.JOB_SUBMITTED, EventType.JOB_PROCESSING, EventType.JOB_SUCCEEDED}
    ),
    ("delivery", "state"): frozenset({DeliveryState.DELIVERED}),
}

#: The condition of the index of queued jobs. Every rank is below 1000: without that, PostgreSQL may
#: take this index for statements whose index is that of all due jobs, and sort what it finds.
QUEUED = f"state = '{JobState.QUEUED}' AND queue_rank < 1000"


def uncommon(table: str, column: str) -> str:
    """Return the condition of the index of rows without a common value."""
    return " AND ".join(f"{column} <> '{value}'" for value in sorted(COMMON[table, column]))


def rare(name: str, table: str, column: str) -> sa.Index:
    """Return an index of the rows without a common value in a column, by id."""
    return _partial(name, uncommon(table, column), column, "id")


def pending(name: str, *columns: str, given: str = "due_at", unique: bool = False) -> sa.Index:
    """Return an index of the pending rows: `due_at <= ?` implies its condition."""
    return _partial(name, f"{given} IS NOT NULL", *columns, unique=unique)


def dead(name: str, *columns: str) -> sa.Index:
    """Return an index of the dead deliveries, which are few."""
    return _partial(name, being("state", DeliveryState.DEAD), *columns)


def queued(name: str, *columns: str) -> sa.Index:
    """Return an index of the queued jobs."""
    return _partial(name, QUEUED, *columns)


def being(column: str, value: str) -> str:
    """Return the condition of an index of the rows with one value in a column."""
    return f"{column} = '{value}'"


def _partial(name: str, condition: str, *columns: str, unique: bool = False) -> sa.Index:
    where = sa.text(condition)
    return sa.Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
