"""Ways through a table: along which index rows of a kind are met in the order of ids, and what is asked of each.

Statements are written so that a planner has one way to go about them, whatever it thinks of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from orchestrator.indexes import COMMON, uncommon


@dataclass(frozen=True, slots=True)
class Way:
    """An index that leads to the rows with one value of a column, by id. `few`: by another order, but there are few."""

    column: str
    few: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """The statements that find some rows, and how many were looked at for that, down to which id."""

    rows: sa.Select[Any]
    edge: sa.Select[int, Any]
    picky: bool


# Built once: putting a statement together costs more than running it.
@lru_cache(maxsize=512)
def look(
    shown: sa.Select[Any],
    table: sa.Table,
    way: Way | None,
    values: int,
    rest: tuple[str, ...],
    since: bool,
    paths: tuple[str, ...] = (),
) -> Look:
    """Return the statements. `paths` are those of the `rest` that have an index too: it is asked, not the row."""
    plain = [name for name in rest if name not in paths]
    tried = [table.c[name] for name in (*plain, *(["created_at"] if since else []))]
    looked = _looked(table, way, values, tried)
    good = [looked.c[name].in_(sa.bindparam(f"rest_{name}", expanding=True)) for name in plain]
    met = [_meets(table, name, looked.c.id) for name in paths]
    found = sa.select(looked.c.id).where(*good, *met)
    if since:
        found = found.where(looked.c.created_at > sa.bindparam("since", type_=table.c.created_at.type))
    found = found.order_by(looked.c.id.desc()).limit(sa.bindparam("most", type_=sa.Integer))
    rows = shown.where(table.c.id.in_(found)).order_by(table.c.id.desc())
    ids = _looked(table, way, values, [])
    edge = sa.select(sa.func.count(), sa.func.min(ids.c.id)).select_from(ids)
    return Look(rows, edge, bool(tried or paths))


def _meets(table: sa.Table, name: str, row: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return whether the index of a column has a row under the one value that is wanted.

    Two bounds, since for one id a planner has the primary key; not EXISTS, of which PostgreSQL may make a join.
    """
    other = table.alias()
    mine = other.c[name] == sa.bindparam(f"one_{name}", type_=sa.String)
    there = sa.select(sa.literal(1)).where(mine, other.c.id >= row, other.c.id <= row)
    if (table.name, name) in COMMON:
        there = there.where(sa.text(uncommon(table.name, name)))
    return there.limit(1).scalar_subquery().is_not(None)


def _looked(table: sa.Table, way: Way | None, values: int, tried: Sequence[sa.Column[Any]]) -> sa.Subquery:
    """Return the rows that are looked at: as many of the newest as `span` says, in a way and between two ids."""
    span = sa.bindparam("span", type_=sa.Integer)
    ways = [_along(table, way, number, tried).limit(span).subquery() for number in range(values)]
    if len(ways) == 1:
        return ways[0]
    merged = sa.union_all(*(sa.select(one) for one in ways)).subquery()
    return sa.select(merged).order_by(merged.c.id.desc()).limit(span).subquery()


def _along(table: sa.Table, way: Way | None, number: int, tried: Sequence[sa.Column[Any]]) -> sa.Select[Any]:
    """Return the rows with value `number` of a way, newest first.

    Pairs are compared, and put in order, where one column would do: PostgreSQL then has no other index that has this
    order. For a value that many rows have it would else walk along the primary key, past any number of others, if those
    rows happen to be old ones.
    """
    row = table.c.id
    floor, after, value = (sa.bindparam(name, type_=sa.String) for name in ("floor", "after", f"value_{number}"))
    chosen = sa.select(row, *tried)
    if way is None or way.few:
        mine = [table.c[way.column] == value] if way else []
        return chosen.where(*mine, row >= floor, row < after).order_by(row.desc())
    column = table.c[way.column]
    pair = sa.tuple_(column, row)
    chosen = chosen.where(pair >= sa.tuple_(value, floor), pair < sa.tuple_(value, after))
    if (table.name, way.column) in COMMON:
        chosen = chosen.where(sa.text(uncommon(table.name, way.column)))
    return chosen.order_by(column.desc(), row.desc())
