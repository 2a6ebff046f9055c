"""Keyset scans along an index, with a row budget, and index merges over several values of a column.

Statements are written so that a planner has one way to run them, whatever its statistics say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa

from orchestrator.database import json_filters
from orchestrator.database.tables.indexes import COMMON, being, uncommon


@dataclass(frozen=True, slots=True)
class IndexPath:
    """An index that finds the rows with one value of a column, by id.

    `few`: in another order, but there are few. `only`: it is partial, with this value of another
    column.
    """

    column: str
    few: bool = False
    only: tuple[str, str] | None = None

    @property
    def is_shortest(self) -> bool:
        """True if no other path can be shorter."""
        return self.few or self.only is not None

    @property
    def columns(self) -> frozenset[str]:
        """The columns whose filters every row of the path meets."""
        return frozenset({self.column, *(self.only or ())[:1]})


@dataclass(frozen=True, slots=True)
class ScanStatements:
    """`ids` finds the rows between two ids; `edge` the id after so many rows of the path.

    `filtered`: there are conditions besides the path, so rows may be passed over.
    """

    ids: sa.Select[str]
    edge: sa.Select[str]
    filtered: bool


# Cached: to build a statement costs more than to run it.
@lru_cache(maxsize=512)
def statements(
    table: sa.Table,
    path: IndexPath | None,
    values: int,
    rest: tuple[str, ...],
    since: bool,
    indexed: tuple[str, ...] = (),
) -> ScanStatements:
    """Return the statements of a scan along `path` (None: the primary key) for so many values.

    `rest` are the columns of the other filters. Those in `indexed` are checked in their index
    instead of in the row.
    """
    conditions = [
        _in_index(table, name) if name in indexed else _in_row(table, name) for name in rest
    ]
    if since:
        conditions.append(table.c.created_at > sa.bindparam("since", type_=table.c.created_at.type))
    matching = [opaque(condition) for condition in conditions]
    found = _merged(table, path, values, matching, "most")
    scanned = _merged(table, path, values, [], "span")
    edge = scanned.limit(1).offset(sa.bindparam("span", type_=sa.Integer) - 1)
    return ScanStatements(found, edge, bool(conditions))


def _in_row(table: sa.Table, name: str) -> sa.ColumnElement[bool]:
    """Return whether a row has one of the wanted values in a column, or in a JSON document."""
    found = json_filters.holds(table, name)
    if found is not None:
        return found
    return table.c[name].in_(sa.bindparam(f"rest_{name}", expanding=True))


def opaque(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return a condition in a form that matches no index and that PostgreSQL expects to be true.

    Otherwise PostgreSQL would take an index of the condition, or read and sort all of the path: it
    expects one row in two hundred to meet an expression, and cannot know how near a chunk's end is.
    """
    return sa.func.nullif(condition, sa.false()).is_not(None)


def _in_index(table: sa.Table, name: str) -> sa.ColumnElement[bool]:
    """Return whether the index of a column has the row under the one wanted value.

    Two bounds, since for one id a planner would take the primary key. Not EXISTS, which PostgreSQL
    may turn into a join.
    """
    other = table.alias()
    value = other.c[name] == sa.bindparam(f"one_{name}", type_=sa.String)
    row = other.c.id >= table.c.id, other.c.id <= table.c.id
    entry = sa.select(sa.literal(1)).where(value, *row)
    if (table.name, name) in COMMON:
        entry = entry.where(sa.text(uncommon(table.name, name)))
    return entry.limit(1).correlate(table).scalar_subquery().is_not(None)


def _merged(
    table: sa.Table,
    path: IndexPath | None,
    values: int,
    conditions: Sequence[sa.ColumnElement[bool]],
    limit_name: str,
) -> sa.Select[str]:
    """Return the ids on a path between two ids, newest first: an index merge over its values."""
    limit = sa.bindparam(limit_name, type_=sa.Integer)
    scans = [_scan(table, path, number, conditions).limit(limit) for number in range(values)]
    if len(scans) == 1:
        return scans[0]
    merged = sa.union_all(*(sa.select(scan.subquery()) for scan in scans)).subquery()
    return sa.select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)


def _scan(
    table: sa.Table,
    path: IndexPath | None,
    number: int,
    conditions: Sequence[sa.ColumnElement[bool]],
) -> sa.Select[str]:
    """Return the ids of rows with value `number` of a path, newest first.

    Compares and orders by pairs where one column would do: on PostgreSQL no other index has this
    order. Otherwise, for a common value, it would walk along the primary key past any number of
    other rows, if those with the value are old.
    """
    row = table.c.id
    floor, after, value = (
        sa.bindparam(name, type_=sa.String) for name in ("floor", "after", f"value_{number}")
    )
    chosen = sa.select(row).where(*conditions)
    if path is None or path.few:
        mine = [table.c[path.column] == value] if path else []
        return chosen.where(*mine, row >= floor, row < after).order_by(row.desc())
    column = table.c[path.column]
    pair = sa.tuple_(column, row)
    chosen = chosen.where(pair >= sa.tuple_(value, floor), pair < sa.tuple_(value, after))
    if path.only is not None:
        chosen = chosen.where(sa.text(being(*path.only)))
    if (table.name, path.column) in COMMON:
        chosen = chosen.where(sa.text(uncommon(table.name, path.column)))
    return chosen.order_by(column.desc(), row.desc())
