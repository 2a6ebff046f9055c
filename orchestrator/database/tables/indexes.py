"""Indexes of some rows only: what is pending, what is dead, what is not as usual. The others do not pay for them.

Both databases take such an index where a statement says its condition; SQLite wants it said in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from orchestrator.foundation.states import DeliveryState, EventType, JobState, Source

#: What most rows have in a column, in the end: who wants something else finds it by an index of the others.
COMMON: Mapping[tuple[str, str], frozenset[str]] = {
    ("job", "state"): frozenset({JobState.SUCCEEDED}),
    ("job", "resolved_by"): frozenset({Source.PUSH}),
    ("event", "type"): frozenset(
        {EventType.JOB_SUBMITTED, EventType.JOB_PROCESSING, EventType.JOB_SUCCEEDED}
    ),
    ("delivery", "state"): frozenset({DeliveryState.DELIVERED}),
}


def uncommon(table: str, column: str) -> str:
    """Return the condition of the index of those others."""
    return " AND ".join(f"{column} <> '{value}'" for value in sorted(COMMON[table, column]))


def rare(name: str, table: str, column: str) -> sa.Index:
    """Return an index of the rows that have something uncommon in a column, newest last."""
    return _some(name, uncommon(table, column), column, "id")


def pending(name: str, *columns: str, given: str = "due_at") -> sa.Index:
    """Return an index of the rows that have something due: `due_at <= ?` implies its condition in both databases."""
    return _some(name, f"{given} IS NOT NULL", *columns)


def dead(name: str, *columns: str) -> sa.Index:
    """Return an index of the dead deliveries, which are few: the living do not pay for it."""
    return _some(name, being("state", DeliveryState.DEAD), *columns)


def being(column: str, value: str) -> str:
    """Return the condition of an index of the rows that have one value in a column."""
    return f"{column} = '{value}'"


def _some(name: str, condition: str, *columns: str) -> sa.Index:
    some = sa.text(condition)
    return sa.Index(name, *columns, sqlite_where=some, postgresql_where=some)
