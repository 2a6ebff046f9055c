"""Statements over many rows at once: one call of the driver for up to 64 rows.

Row by row, SQLAlchemy processes the parameters of each and the driver releases and takes the GIL
for each; both cost more than the work of the database. Here a statement is compiled once, for one
row, and its text repeated for up to 64: so few texts that the driver keeps them all prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.database.statements import DIALECTS, Statement, numbered, read, send

Columns = Mapping[str, sa.Column[Any]]
Rows = Sequence[Mapping[str, object]]
Parameters = dict[str, sa.BindParameter[Any]]
#: Builds the statement over one row from its dialect and the parameters of the row.
Build = Callable[[str, Parameters], sa.ClauseElement]

_MAX_ROWS = 64
#: Up to so many rows are one statement on PostgreSQL too.
_ANY_SIZE = 8


class BulkWrite:
    """A statement over rows, each with a value for every one of `columns`."""

    def __init__(self, columns: Columns, build: Build) -> None:
        self._columns = columns
        self._build = build
        self._compiled: dict[str, _CompiledWrite] = {}

    def __call__(self, tx: sa.Connection, rows: Rows) -> None:
        """Run the statement over the rows."""
        compiled = self._of(tx)
        for chunk in compiled.chunks(rows):
            send(tx, compiled.text(len(chunk)), compiled.parameters(chunk))

    def read(self, tx: sa.Connection, rows: Rows) -> list[Sequence[Any]]:
        """Run the statement over the rows, and return what it returns, as the driver has it."""
        compiled = self._of(tx)
        return [
            row
            for chunk in compiled.chunks(rows)
            for row in read(tx, compiled.text(len(chunk)), compiled.parameters(chunk))
        ]

    def _of(self, tx: sa.Connection) -> _CompiledWrite:
        dialect = tx.dialect
        if (compiled := self._compiled.get(dialect.name)) is None:
            compiled = _CompiledWrite(dialect, self._columns, self._build)
            self._compiled[dialect.name] = compiled
        return compiled


class _CompiledWrite:
    """The statement in one dialect, split before and after the parameters of its row."""

    def __init__(self, dialect: sa.Dialect, columns: Columns, build: Build) -> None:
        self._names = tuple(columns)
        processors = [
            column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns.values()
        ]
        self._processors = [(at, process) for at, process in enumerate(processors) if process]
        row = {name: sa.bindparam(name, type_=column.type) for name, column in columns.items()}
        compiled = build(dialect.name, row).compile(dialect=DIALECTS[dialect.name])
        assert isinstance(compiled, sa.sql.compiler.SQLCompiler)
        assert compiled.positiontup == list(columns), (
            "the row must be written in the order of its columns"
        )
        text = str(compiled)
        start = text.index("VALUES (") + len("VALUES ")
        end = text.index(")", start) + 1
        self._before, self._row, self._after = text[:start], text[start:end], text[end:]
        self._is_numbered = dialect.name == "postgresql"
        self._texts: dict[int, str] = {}

    def chunks(self, rows: Rows) -> Iterator[Rows]:
        """Yield the rows of each statement.

        On PostgreSQL few sizes: each is a plan that the server keeps, and one more statement in the
        pipeline costs little.
        """
        start = 0
        while left := len(rows) - start:
            size = min(left, _MAX_ROWS)
            if self._is_numbered and size > _ANY_SIZE:
                size = 1 << (size.bit_length() - 1)
            yield rows[start : start + size]
            start += size

    def text(self, count: int) -> str:
        """Return the statement over `count` rows."""
        if count not in self._texts:
            text = self._before + ", ".join([self._row] * count) + self._after
            self._texts[count] = numbered(text) if self._is_numbered else text
        return self._texts[count]

    def parameters(self, rows: Rows) -> tuple[Any, ...]:
        """Return the values of rows in the form of the driver."""
        parameters: list[Any] = []
        for row in rows:
            values: list[Any] = [*map(row.__getitem__, self._names)]
            for at, process in self._processors:
                if values[at] is not None:
                    values[at] = process(values[at])
            parameters += values
        return tuple(parameters)


class BulkSelect:
    """A SELECT of the rows with one of many values: `one_of(column)` is its condition."""

    def __init__(self, select: sa.Select[Any]) -> None:
        self.select = select
        self._statement = Statement(select)

    def __call__(self, tx: sa.Connection, values: Sequence[Any]) -> list[list[Any]]:
        """Return the rows, each a list in the order of its columns, 64 values at a time."""
        return [row for chunk in _chunks(values) for row in self._statement(tx, {"values": chunk})]

    def ask(self, tx: sa.Connection, values: Sequence[Any]) -> Callable[[], list[list[Any]]]:
        """Return a function that returns the rows, to be called once: see `statements.ask`."""
        answers = [self._statement.ask(tx, {"values": chunk}) for chunk in _chunks(values)]
        return lambda: [row for answer in answers for row in answer()]

    def send(self, tx: sa.Connection, values: Sequence[Any]) -> None:
        """Run it for its locks alone."""
        for chunk in _chunks(values):
            self._statement.send(tx, {"values": chunk})


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _MAX_ROWS] for start in range(0, len(values), _MAX_ROWS))


def one_of(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return the condition of a `BulkSelect` on its values, which are not processed."""
    return column.in_(sa.bindparam("values", expanding=True))


class RowLock:
    """Locks the rows that a unit of work changes, in the order of their keys.

    Two units that lock the same rows in different orders deadlock. The UPDATE of one row locks it
    by itself, and SQLite has one writer: neither needs a statement.
    """

    def __init__(self, key: sa.Column[str]) -> None:
        self._select = BulkSelect(sa.select(key).where(one_of(key)).order_by(key).with_for_update())

    def __call__(self, tx: sa.Connection, keys: Collection[str]) -> None:
        """Lock the rows with these keys until the transaction ends."""
        if len(keys) > 1 and tx.dialect.name == "postgresql":
            self._select.send(tx, sorted(keys))


def bulk_insert(
    table: sa.Table,
    *names: str,
    on_conflict: Callable[[sqlite.Insert], sqlite.Insert] | None = None,
    returning: sa.Column[Any] | None = None,
) -> BulkWrite:
    """Return an INSERT of these columns.

    `on_conflict` adds its ON CONFLICT clause; the rows of a call may then not conflict among
    themselves, unless it does nothing. `returning` is what `read` returns of the inserted rows.
    """

    def build(dialect: str, row: Parameters) -> sa.ClauseElement:
        statement = insert(dialect, table).values(row)
        statement = on_conflict(statement) if on_conflict else statement
        return statement if returning is None else statement.returning(returning)

    return BulkWrite({name: table.c[name] for name in names}, build)


def bulk_update(
    table: sa.Table,
    *names: str,
    key: Sequence[str],
    increments: Sequence[str] = (),
    where: sa.ColumnElement[bool] | None = None,
    also: Mapping[str, sa.ColumnElement[Any]] = MappingProxyType({}),
) -> BulkWrite:
    """Return an UPDATE of the rows whose `key` columns equal `was_<column>`.

    The columns in `increments` grow by their value, the others are set to it. `where` restricts the
    rows, `also` sets other columns; neither may have parameters.
    """
    columns = {f"was_{name}": table.c[name] for name in key} | {
        name: table.c[name] for name in (*names, *increments)
    }

    def build(_: str, row: Parameters) -> sa.ClauseElement:
        # A CTE, since SQLite has no UPDATE ... FROM (VALUES ...).
        shape = [sa.column(f"new_{name}", column.type) for name, column in columns.items()]
        new = sa.values(*shape, name="new").data([tuple(row.values())]).cte("new")
        same = sa.and_(*(table.c[name] == new.c[f"new_was_{name}"] for name in key))
        values = {name: new.c[f"new_{name}"] for name in names} | dict(also)
        values |= {name: table.c[name] + new.c[f"new_{name}"] for name in increments}
        wanted = same if where is None else sa.and_(same, where)
        return sa.update(table).where(wanted).values(values)

    return BulkWrite(columns, build)


def insert(dialect: str, table: sa.Table) -> sqlite.Insert:
    """Return an INSERT with ON CONFLICT in a dialect; both have the same syntax."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)  # type: ignore[return-value]
