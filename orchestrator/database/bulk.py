"""Statements over many rows at once: one call into the database's library for up to 64 of them.

Row by row, SQLAlchemy looks at each row's parameters, and the driver gives up the interpreter and wins it back for each
row; both cost more than the database's own work. Here a statement is compiled once, over one row, and written out over
as many as there are, up to 64: so few texts that the driver keeps them all prepared. Looking rows up is alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Row = Mapping[str, Any]
Columns = Mapping[str, sa.Column[Any]]
Parameters = dict[str, sa.BindParameter[Any]]
#: Makes the statement over one row, given its dialect and the parameters of the row.
Build = Callable[[str, Parameters], sa.ClauseElement]

_MOST = 64


class Bulk:
    """A statement that takes rows, each with a value for every one of `columns`."""

    def __init__(self, columns: Columns, build: Build) -> None:
        self._columns = columns
        self._build = build
        self._written: dict[str, _Written] = {}

    def __call__(self, tx: sa.Connection, rows: Sequence[Row]) -> None:
        """Run it over the rows."""
        dialect = tx.dialect
        if dialect.name not in self._written:
            self._written[dialect.name] = _Written(dialect, self._columns, self._build)
        written = self._written[dialect.name]
        for start in range(0, len(rows), _MOST):
            chunk = rows[start : start + _MOST]
            tx.exec_driver_sql(written.over(len(chunk)), written.values(chunk))


class _Written:
    """The statement in one dialect, cut before and after the parameters of its row."""

    def __init__(self, dialect: sa.Dialect, columns: Columns, build: Build) -> None:
        self._names = tuple(columns)
        processors = [
            column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns.values()
        ]
        self._processors = [(at, process) for at, process in enumerate(processors) if process]
        row = {name: sa.bindparam(name, type_=column.type) for name, column in columns.items()}
        compiled = build(dialect.name, row).compile(dialect=_POSITIONAL[dialect.name])
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        assert compiled.positiontup == list(columns), (
            "the row must be written in the order of its columns"
        )
        text = str(compiled)
        start = text.index("VALUES (") + len("VALUES ")
        end = text.index(")", start) + 1
        self._before, self._row, self._after = text[:start], text[start:end], text[end:]
        self._texts: dict[int, str] = {}

    def over(self, count: int) -> str:
        """Return the statement over so many rows."""
        if count not in self._texts:
            self._texts[count] = self._before + ", ".join([self._row] * count) + self._after
        return self._texts[count]

    def values(self, rows: Sequence[Row]) -> tuple[Any, ...]:
        """Return the parameters of rows, as the driver takes them."""
        values: list[Any] = []
        for row in rows:
            one = [*map(row.__getitem__, self._names)]
            for at, process in self._processors:
                if one[at] is not None:
                    one[at] = process(one[at])
            values += one
        return tuple(values)


class Finder:
    """A SELECT compiled once; with `among(column)` in it, of the rows whose column has one of some values."""

    def __init__(self, select: sa.Select[Any]) -> None:
        self.select = select
        self._sought: dict[str, _Sought] = {}

    def __call__(self, tx: sa.Connection, values: Sequence[Any] | None = None) -> list[list[Any]]:
        """Return the rows, each a list in the order of its columns: those of the first 64 values, of the next, ..."""
        dialect = tx.dialect
        if dialect.name not in self._sought:
            self._sought[dialect.name] = _Sought(dialect, self.select)
        sought = self._sought[dialect.name]
        if values is None:
            return sought.rows(tx, ())
        blocks = [tuple(values[start : start + _MOST]) for start in range(0, len(values), _MOST)]
        return [row for block in blocks for row in sought.rows(tx, block)]


def among(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition of a `Finder` that the column has one of its values. They are sent as they are."""
    return column.in_(sa.bindparam("among", expanding=True))


class _Sought:
    """The SELECT in one dialect."""

    def __init__(self, dialect: sa.Dialect, select: sa.Select[Any]) -> None:
        self._select = select
        self._dialect = _POSITIONAL[dialect.name]
        types = [column.type.dialect_impl(dialect) for column in select.selected_columns]
        processors = [one.result_processor(dialect, None) for one in types]
        self._processors = [(at, process) for at, process in enumerate(processors) if process]
        self._texts: dict[int, str] = {}

    def rows(self, tx: sa.Connection, values: tuple[Any, ...]) -> list[list[Any]]:
        """Return the rows that have one of the values."""
        if values:
            # To be one of the same is as good: few texts, for the driver to keep.
            values += values[-1:] * ((1 << (len(values) - 1).bit_length()) - len(values))
        rows = [list(row) for row in tx.exec_driver_sql(self.over(len(values)), values).fetchall()]
        for at, process in self._processors:
            for row in rows:
                if row[at] is not None:
                    row[at] = process(row[at])
        return rows

    def over(self, count: int) -> str:
        """Return the statement over so many values; constants are written into it."""
        if count not in self._texts:
            how = {"render_postcompile": True} if count else {"literal_binds": True}
            wanted = self._select.params(among=[None] * count) if count else self._select
            compiled = wanted.compile(dialect=self._dialect, compile_kwargs=how)
            assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
            assert len(compiled.positiontup or ()) == count, "its only parameters are the values"
            self._texts[count] = str(compiled)
        return self._texts[count]


#: Parameters are known by their place: that is how the text of one row can stand for many.
_POSITIONAL: dict[str, sa.Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}


def inserting(
    table: sa.Table, *names: str, but: Callable[[sqlite.Insert], sqlite.Insert] | None = None
) -> Bulk:
    """Return an INSERT of these columns. `but` adds its ON CONFLICT clause, in which a row may not be met twice."""

    def build(dialect: str, row: Parameters) -> sa.ClauseElement:
        made = insert(dialect, table).values(row)
        return but(made) if but else made

    return Bulk({name: table.c[name] for name in names}, build)


def updating(
    table: sa.Table,
    *names: str,
    key: Sequence[str],
    more: Sequence[str] = (),
    where: sa.ColumnElement[bool] | None = None,
    also: Mapping[str, sa.ColumnElement[Any]] = MappingProxyType({}),
) -> Bulk:
    """Return an UPDATE of the rows whose `key` columns are as `was_<column>` says, to what the other columns say.

    Columns in `more` grow by what they say. `where` restricts it further, `also` sets others; neither has parameters.
    """
    columns = {f"was_{name}": table.c[name] for name in key} | {
        name: table.c[name] for name in (*names, *more)
    }

    def build(_: str, row: Parameters) -> sa.ClauseElement:
        # A CTE, since SQLite has no UPDATE ... FROM (VALUES ...).
        shape = [sa.column(f"new_{name}", column.type) for name, column in columns.items()]
        new = sa.values(*shape, name="new").data([tuple(row.values())]).cte("new")
        same = sa.and_(*(table.c[name] == new.c[f"new_was_{name}"] for name in key))
        values = {name: new.c[f"new_{name}"] for name in names} | dict(also)
        values |= {name: table.c[name] + new.c[f"new_{name}"] for name in more}
        wanted = same if where is None else sa.and_(same, where)
        return sa.update(table).where(wanted).values(values)

    return Bulk(columns, build)


def insert(dialect: str, table: sa.Table) -> sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT in a dialect; both spell it alike."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)  # type: ignore[return-value]
