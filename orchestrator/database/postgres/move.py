"""The move of a SQLite database to an empty PostgreSQL database.

Rows are copied table by table in the order of their rowids, which is that of their insertion. A
transaction copies a batch and records its last rowid in `unfinished_move`, so a move that was
killed continues where it stopped. Meanwhile the revision of the target is `schema.MOVING`: no
service starts on it. The last transaction compares counts and digests of all tables, sets the
sequences, and puts the revision in place.

Values are copied as they are stored, without the types of SQLAlchemy. Only two things differ:
PostgreSQL has booleans, and an event has the rowid as its position (see `events.log`).

Imported only where the driver is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from orchestrator.database import queue, schema
from orchestrator.database.digest import StoredRow, TableDigest, digest_of
from orchestrator.database.membership import ALONE
from orchestrator.database.sqlite.snapshot import driver_of
from orchestrator.database.tables import metadata
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import ConfigError

#: A batch ends at so many rows, or bytes of text and blobs. One row may exceed them.
BATCH_ROWS, BATCH_BYTES = 10_000, 16 << 20
TABLES = tuple(metadata.sorted_tables)
_PROGRESS = sa.table("unfinished_move", sa.column("name"), sa.column("place"), sa.column("source"))

#: Is called with what is done ("copying"), the table, and its rows since the last call.
Report = Callable[[str, str, int], object]


def sizes(source: sa.Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    counted = {table.name: sa.select(sa.func.count()).select_from(table) for table in TABLES}
    return {name: source.scalar(count) or 0 for name, count in counted.items()}


def move(source: sa.Connection, target: sa.Engine, report: Report) -> dict[str, TableDigest]:
    """Move all rows to an empty database, or continue; return the digest of each table.

    `source` reads one state of the newest schema, which nothing changes until the move has ended.
    Raises `ConfigError` if the target is in use or holds the move of another state, if a value does
    not fit, and if the databases differ at the end.
    """
    with _explained(), target.begin() as tx:
        places = _begin(tx, _fingerprint(source))
    for table in TABLES:
        _copy(source, target, table, places[table.name], report)
    # Before the transaction: the server ends one that is idle for ten seconds.
    ours = {table.name: digest_of(row[1:] for row in _numbered(source, table)) for table in TABLES}
    with _explained(), target.begin() as tx:
        for table in TABLES:
            _compare(tx, table, ours[table.name])
            report("comparing", table.name, ours[table.name].rows)
        _finish(tx)
    return ours


def _begin(tx: sa.Connection, fingerprint: str) -> Mapping[str, int]:
    """Return after which rowid to continue in each table. Raises `ConfigError`."""
    schema.lock(tx)
    name = schema.named(tx.engine.url)
    if schema.current(tx) != schema.MOVING:
        schema.upgrade(tx)
        if used := [table.name for table in TABLES if _has_rows(tx, table)]:
            raise ConfigError(
                f"{name} is in use: there are rows in {', '.join(used)}; name an empty database"
            )
        tx.exec_driver_sql(
            "CREATE TABLE unfinished_move (name text PRIMARY KEY, place bigint, source text)"
        )
        # They would write a row that is copied too.
        tx.exec_driver_sql("ALTER TABLE subscriber DISABLE TRIGGER USER")
        start = [{"name": table.name, "place": 0, "source": fingerprint} for table in TABLES]
        tx.execute(sa.insert(_PROGRESS), start)
        schema.stamp(tx, schema.MOVING)
    rows = tx.execute(sa.select(_PROGRESS)).all()
    if any(row.source != fingerprint for row in rows):
        raise ConfigError(
            f"{name} holds an unfinished move of another database, or of an earlier state of this "
            "one; name an empty database"
        )
    return {row.name: row.place for row in rows}


def _has_rows(tx: sa.Connection, table: sa.Table) -> bool:
    return tx.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None


def _fingerprint(source: sa.Connection) -> str:
    """Return a text that changes with the tables' numbers of rows and their newest rowids."""
    newest = [source.scalar(sa.select(sa.func.max(_ROWID)).select_from(t)) for t in TABLES]
    return hashlib.sha256(repr((sizes(source), newest)).encode()).hexdigest()


def _copy(
    source: sa.Connection, target: sa.Engine, table: sa.Table, place: int, report: Report
) -> None:
    """Copy the rows of a table after a rowid, a transaction a batch."""
    rows = _numbered(source, table, place)
    for first in rows:
        with _explained(table), target.begin() as tx:
            batch = _Batch(chain((first,), rows))
            types = _types(tx, table)
            with _cursor(tx).copy(_copy_statement(table, "FROM STDIN")) as copying:
                copying.set_types(types)
                for row in batch:
                    copying.write_row(row)
            mine = sa.and_(_PROGRESS.c.name == table.name, _PROGRESS.c.place == place)
            moved = tx.execute(sa.update(_PROGRESS).where(mine).values(place=batch.place))
            if moved.rowcount != 1:
                raise ConfigError(f"another process moves {table.name} too; wait for its end")
        place = batch.place
        report("copying", table.name, batch.count)


class _Batch:
    """Yields rows without their rowids until the batch is full; `place` is the last rowid."""

    def __init__(self, rows: Iterator[StoredRow]) -> None:
        self._rows = rows
        self.place = self.count = 0

    def __iter__(self) -> Iterator[StoredRow]:
        size = 0
        for place, *row in self._rows:
            assert isinstance(place, int)
            self.place, self.count = place, self.count + 1
            yield tuple(row)
            size += sum(len(value) for value in row if isinstance(value, str | bytes))
            if self.count >= BATCH_ROWS or size >= BATCH_BYTES:
                return


def _numbered(source: sa.Connection, table: sa.Table, place: int = 0) -> Iterator[StoredRow]:
    """Yield the rows of a table after a rowid: the rowid, then the values of the target."""
    # Columns without types: values as they are stored.
    columns = [
        _ROWID if column is _EVENT_POSITION else sa.column(column.name) for column in table.columns
    ]
    query = sa.select(_ROWID, *columns).select_from(table).order_by(_ROWID)
    text = str(query.where(sa.bindparam("place") < _ROWID).compile(dialect=source.dialect))
    rows: Iterator[Any] = driver_of(source).execute(text, (place,))
    booleans = [
        at for at, column in enumerate(table.columns, 1) if isinstance(column.type, sa.Boolean)
    ]
    if not booleans:
        return rows
    return (_with_booleans(row, booleans) for row in rows)


def _with_booleans(row: StoredRow, places: list[int]) -> StoredRow:
    values = list(row)
    for at in places:
        if values[at] is not None:
            values[at] = bool(values[at])
    return tuple(values)


def _compare(tx: sa.Connection, table: sa.Table, ours: TableDigest) -> None:
    """Raise `ConfigError` unless a table of the target has the digest of the source's."""
    types = _types(tx, table)
    with _cursor(tx).copy(_copy_statement(table, "TO STDOUT")) as copying:
        copying.set_types(types)
        theirs = digest_of(copying.rows())
    if ours != theirs:
        raise ConfigError(
            f"{table.name} differs after the move: {ours.rows} rows here and {theirs.rows} there, "
            f"digests {ours.digest[:16]} and {theirs.digest[:16]}; move to an empty database"
        )


def _finish(tx: sa.Connection) -> None:
    """Set the sequences behind the highest values, make claimed work due, and end the move."""
    for table in TABLES:
        for column in table.columns:
            named = sa.func.pg_get_serial_sequence(table.name, column.name)
            if (sequence := tx.scalar(sa.select(named))) is not None:
                highest = sa.select(sa.func.max(column)).scalar_subquery()
                # NULL for an empty table leaves the sequence at its start.
                tx.execute(sa.select(sa.func.setval(sequence, highest)))
        # Without it, the planner knows nothing of the rows until autovacuum comes.
        tx.exec_driver_sql(f'ANALYZE "{table.name}"')
    tx.exec_driver_sql("ALTER TABLE subscriber ENABLE TRIGGER USER")
    # The only process of the source has ended, and its number will be that of another one.
    queue.take_back(tx, [ALONE], SystemClock().now())
    tx.exec_driver_sql("DROP TABLE unfinished_move")
    schema.stamp(tx, schema.head())


def _cursor(tx: sa.Connection) -> psycopg.Cursor[Any]:
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.cursor()


def _copy_statement(table: sa.Table, direction: str) -> sql.Composed:
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    return sql.SQL("COPY {} ({}) " + direction + " (FORMAT BINARY)").format(
        sql.Identifier(table.name), columns
    )


def _types(tx: sa.Connection, table: sa.Table) -> list[int]:
    """Return the numbers of the types of a table's columns."""
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, sql.Identifier(table.name))
    return [column.type_code for column in _cursor(tx).execute(query).description or ()]


@contextlib.contextmanager
def _explained(table: sa.Table | None = None) -> Iterator[None]:
    """Raise errors of the driver as `ConfigError`, with the table."""
    try:
        yield
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        cause = getattr(error, "orig", error)
        where = "" if table is None else f"{table.name}: "
        next_step = (
            "the next run continues from there"
            if isinstance(cause, psycopg.OperationalError)
            else "nothing of this batch was moved"
        )
        raise ConfigError(f"{where}{' '.join(str(cause).split())}; {next_step}") from error


_ROWID: sa.ColumnElement[int] = sa.literal_column("rowid", sa.BigInteger)
_EVENT_POSITION = metadata.tables["event"].c.position
