"""Ways through a table: along which index rows of a kind are met in the order of ids, and what is asked of each.

Statements are written so that a planner has one way to go about them, whatever it thinks of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from orchestrator.database.tables.indexes import COMMON, being, uncommon


@dataclass(frozen=True, slots=True)
class IndexPath:
    """An index that leads to the rows with one value of a column, by id.

    `few`: by another order, but there are few. `only`: it has no rows but those with this value of another column.
    """

    column: str
    few: bool = False
    only: tuple[str, str] | None = None

    @property
    def sure(self) -> bool:
        """True if no other way can be the shorter one."""
        return self.few or self.only is not None

    @property
    def columns(self) -> frozenset[str]:
        """What need not be tried on a row that is met on it."""
        return frozenset({self.column, *(self.only or ())[:1]})


@dataclass(frozen=True, slots=True)
class ScanPlan:
    """The statements that find rows between two ids, and the id at which so many have been looked at for that."""

    rows: sa.Select[Any]
    edge: sa.Select[str]
    picky: bool


# Built once: putting a statement together costs more than running it.
@lru_cache(maxsize=512)
def look(
    shown: sa.Select[Any],
    table: sa.Table,
    way: IndexPath | None,
    values: int,
    rest: tuple[str, ...],
    since: bool,
    paths: tuple[str, ...] = (),
) -> ScanPlan:
    """Return the statements. `paths` are those of the `rest` that have an index too: it is asked, not the row."""
    tried = [
        _meets(table, name)
        if name in paths
        else table.c[name].in_(sa.bindparam(f"rest_{name}", expanding=True))
        for name in rest
    ]
    if since:
        tried.append(table.c.created_at > sa.bindparam("since", type_=table.c.created_at.type))
    found = _met(table, way, values, [_likely(one) for one in tried], "most")
    rows = shown.where(table.c.id.in_(found)).order_by(table.c.id.desc())
    looked = _met(table, way, values, [], "span")
    edge = looked.limit(1).offset(sa.bindparam("span", type_=sa.Integer) - 1)
    return ScanPlan(rows, edge, bool(tried))


def _likely(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return a condition in words in which no index has it, and which PostgreSQL takes to be true of nearly every row.

    It would else leave the way for an index of its own, or read and sort everything that is on it: of an expression
    PostgreSQL believes that one row in two hundred fits, and of the end of a portion it cannot know how near it is.
    """
    return sa.func.nullif(condition, sa.false()).is_not(None)


def _meets(table: sa.Table, name: str) -> sa.ColumnElement[bool]:
    """Return whether the index of a column has a row under the one value that is wanted.

    Two bounds, since for one id a planner has the primary key; not EXISTS, of which PostgreSQL may make a join.
    """
    other = table.alias()
    mine = other.c[name] == sa.bindparam(f"one_{name}", type_=sa.String)
    there = sa.select(sa.literal(1)).where(mine, other.c.id >= table.c.id, other.c.id <= table.c.id)
    if (table.name, name) in COMMON:
        there = there.where(sa.text(uncommon(table.name, name)))
    return there.limit(1).correlate(table).scalar_subquery().is_not(None)


def _met(
    table: sa.Table,
    way: IndexPath | None,
    values: int,
    tried: Sequence[sa.ColumnElement[bool]],
    most: str,
) -> sa.Select[str]:
    """Return the ids that are met in a way between two ids, the newest first and no more of them than `most` says."""
    limit = sa.bindparam(most, type_=sa.Integer)
    ways = [_along(table, way, number, tried).limit(limit) for number in range(values)]
    if len(ways) == 1:
        return ways[0]
    merged = sa.union_all(*(sa.select(one.subquery()) for one in ways)).subquery()
    return sa.select(merged.c.id).order_by(merged.c.id.desc()).limit(limit)


def _along(
    table: sa.Table, way: IndexPath | None, number: int, tried: Sequence[sa.ColumnElement[bool]]
) -> sa.Select[str]:
    """Return the ids of rows with value `number` of a way, newest first.

    Pairs are compared, and put in order, where one column would do: PostgreSQL then has no other index that has this
    order. For a value that many rows have it would else walk along the primary key, past any number of others, if those
    rows happen to be old ones.
    """
    row = table.c.id
    floor, after, value = (
        sa.bindparam(name, type_=sa.String) for name in ("floor", "after", f"value_{number}")
    )
    chosen = sa.select(row).where(*tried)
    if way is None or way.few:
        mine = [table.c[way.column] == value] if way else []
        return chosen.where(*mine, row >= floor, row < after).order_by(row.desc())
    column = table.c[way.column]
    pair = sa.tuple_(column, row)
    chosen = chosen.where(pair >= sa.tuple_(value, floor), pair < sa.tuple_(value, after))
    if way.only is not None:
        chosen = chosen.where(sa.text(being(*way.only)))
    if (table.name, way.column) in COMMON:
        chosen = chosen.where(sa.text(uncommon(table.name, way.column)))
    return chosen.order_by(column.desc(), row.desc())
