"""Statements that are compiled once and run on the driver's own connection.

For a short statement, an execution by SQLAlchemy costs ten times what SQLite needs: it makes a
context, a result, and the metadata of the result. Here a statement costs its parameters and rows.
Hot paths use these classes, anything else executes as usual.

On PostgreSQL the statements of a unit of work are pipelined: `send` does not wait for a result, and
`ask` not yet. The error of such a statement is raised by a later one or by the commit.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

RowT = TypeVar("RowT")

#: Positional parameters.
DIALECTS: Mapping[str, sa.Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}


def send(tx: sa.Connection, text: str, parameters: Sequence[Any]) -> None:
    """Run a statement without waiting for its result. Raises the errors of SQLAlchemy."""
    _execute(tx, text, parameters)


def read(tx: sa.Connection, text: str, parameters: Sequence[Any]) -> list[Sequence[Any]]:
    """Run a statement and return its rows. Raises the errors of SQLAlchemy."""
    return _fetched(tx, _execute(tx, text, parameters), text, parameters)


def ask(
    tx: sa.Connection, text: str, parameters: Sequence[Any]
) -> Callable[[], list[Sequence[Any]]]:
    """Return a function that returns the rows of a statement, to be called once.

    On PostgreSQL the statement is sent now: what is asked for one after the other comes with one
    round trip. On SQLite, which has none, it runs when the function is called.
    """
    if tx.dialect.name != "postgresql":
        return partial(read, tx, text, parameters)
    return partial(_fetched, tx, _execute(tx, text, parameters), text, parameters)


def _fetched(
    tx: sa.Connection, cursor: Any, text: str, parameters: Sequence[Any]
) -> list[Sequence[Any]]:
    try:
        return cast("list[Sequence[Any]]", cursor.fetchall())
    except Exception as error:
        _raise(tx, error, text, parameters)


def _execute(tx: sa.Connection, text: str, parameters: Sequence[Any]) -> Any:
    """Return the cursor of a statement that was begun."""
    driver = cast("Any", tx.connection.driver_connection)
    try:
        for listener in tx.dispatch.before_cursor_execute:
            cursor = getattr(driver, "raw_cursor", driver.cursor)()
            listener(tx, cursor, text, parameters, None, False)
        return driver.execute(text, parameters)
    except Exception as error:
        _raise(tx, error, text, parameters)


def _raise(tx: sa.Connection, error: Exception, text: str, parameters: Sequence[Any]) -> NoReturn:
    """Raise an error of the driver as SQLAlchemy does, and leave a connection that is lost."""
    # Not public, but all of it: the events, the class of the error, the fate of the pool.
    tx._handle_dbapi_exception(error, text, cast("Any", parameters), None, None)


class Statement:
    """A statement compiled once for each database.

    A list (an `expanding` parameter) is an array on PostgreSQL, so that one text serves any length.
    SQLite has no arrays: there a text serves the lengths up to the next power of two, and a list is
    padded with its last value. As a set to compare with, it stays the same.
    """

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase) -> None:
        self.statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def __call__(self, tx: sa.Connection, values: Mapping[str, Any]) -> list[list[Any]]:
        """Return the rows, each a list in the order of its columns."""
        compiled = self._of(tx)
        return compiled.results(read(tx, *compiled.bound(values)))

    def ask(self, tx: sa.Connection, values: Mapping[str, Any]) -> Callable[[], list[list[Any]]]:
        """Return a function that returns the rows, to be called once: see `ask`."""
        compiled = self._of(tx)
        answer = ask(tx, *compiled.bound(values))
        return lambda: compiled.results(answer())

    def rows(self, tx: sa.Connection, kind: type[RowT], values: Mapping[str, Any]) -> list[RowT]:
        """Return the rows, each a mapping of the type `kind`."""
        compiled = self._of(tx)
        found, names = compiled.results(read(tx, *compiled.bound(values))), compiled.names
        return cast("list[RowT]", [dict(zip(names, row, strict=True)) for row in found])

    def send(self, tx: sa.Connection, values: Mapping[str, Any]) -> None:
        """Run it without waiting for its result."""
        send(tx, *self._of(tx).bound(values))

    def _of(self, tx: sa.Connection) -> _Compiled:
        name = tx.dialect.name
        if (compiled := self._compiled.get(name)) is None:
            compiled = self._compiled[name] = _Compiled(self.statement, DIALECTS[name])
        return compiled


class _Compiled:
    """A statement in one dialect."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        binds = compiled.binds
        kinds = {name: bind.type.dialect_impl(dialect) for name, bind in binds.items()}
        processors = {name: kind.bind_processor(dialect) for name, kind in kinds.items()}
        self._parameters = [
            (name, binds[name].expanding, processors[name]) for name in compiled.positiontup or ()
        ]
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        self._has_arrays = dialect.name == "postgresql"
        #: The text, on SQLite with a gap for every list.
        self._text = _LIST.split(numbered(str(compiled)) if self._has_arrays else str(compiled))
        columns = _columns(statement)
        #: The names of the columns of a row.
        self.names = [column.key for column in columns]
        readers = [_reader(column.type, dialect) for column in columns]
        self._readers = [(at, reader) for at, reader in enumerate(readers) if reader]

    def bound(self, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        """Return the text for lists as long as these, and the parameters of the driver."""
        given = {**self._constants, **values}
        parameters, gaps = list[Any](), list[str]()
        for name, is_list, process in self._parameters:
            value = given[name]
            if not is_list:
                parameters.append(process(value) if process and value is not None else value)
            elif self._has_arrays:
                parameters.append(list(value))
            else:
                padded = _padded(value)
                parameters += padded
                gaps.append(", ".join("?" * len(padded)))
        if not gaps:
            return self._text[0], tuple(parameters)
        parts = [part for pair in zip(self._text, gaps, strict=False) for part in pair]
        return "".join([*parts, self._text[-1]]), tuple(parameters)

    def results(self, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return rows of the driver as rows of the statement."""
        found = [list(row) for row in rows]
        for at, reader in self._readers:
            for row in found:
                if row[at] is not None:
                    row[at] = reader(row[at])
        return found


def _reader(kind: sa.types.TypeEngine[Any], dialect: sa.Dialect) -> Callable[[Any], Any] | None:
    """Return what makes a value of the driver one of a column; None if it is one already."""
    # SQLAlchemy's would ask for the type of the result. Both drivers return numbers.
    is_number = isinstance(kind, sa.Numeric | sa.Float)
    return None if is_number else kind.dialect_impl(dialect).result_processor(dialect, None)


def _columns(statement: sa.Select[Any] | sa.UpdateBase) -> Sequence[sa.ColumnElement[Any]]:
    if isinstance(statement, sa.Select):
        return list(statement.selected_columns)
    return list(statement.exported_columns)


def _padded(values: Sequence[Any]) -> Sequence[Any]:
    """Return values with the last one repeated up to a power of two."""
    count = len(values)
    missing = (1 << (count - 1).bit_length()) - count if count else 0
    return [*values, *[values[-1]] * missing] if missing else values


def numbered(text: str) -> str:
    """Return a text for PostgreSQL with its parameters as `$1` and so on, and lists as arrays.

    The driver would do it again at each execution.
    """
    numbers = itertools.count(1)

    def parameter(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        number = f"${next(numbers)}"
        if found[0] == "%s":
            return number
        return f"<> ALL({number})" if found[0].startswith("NOT") else f"= ANY({number})"

    return _PARAMETER.sub(parameter, text)


# How SQLAlchemy writes a list before its length is known.
_LIST = re.compile(r"__\[POSTCOMPILE_\w+\]")
_PARAMETER = re.compile(rf"%%|%s|(?:NOT )?IN \({_LIST.pattern}\)")
