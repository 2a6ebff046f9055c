"""Bulk statements: values are stored and read unchanged, in one call per 64 rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.bulk import (
    BulkSelect,
    BulkWrite,
    _CompiledWrite,
    bulk_insert,
    bulk_update,
    one_of,
)
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.statements import DIALECTS
from orchestrator.database.tables.columns import Instant, Json
from orchestrator.engine import receive_storage
from orchestrator.events import outbox
from orchestrator.jobs import ledger

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
#: Its names are reserved words where they can be.
TABLE = sa.Table(
    "order",
    sa.MetaData(),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("group", sa.Integer),
    sa.Column("values", Json),
    sa.Column("when", Instant),
    sa.Column("body", sa.LargeBinary),
    sa.Column("check", sa.Boolean),
    sa.Column("select", sa.Integer, server_default="7"),
)
INSERT = bulk_insert(TABLE, "key", "group", "values", "when", "body", "check")
UPDATE = bulk_update(TABLE, "group", "values", "when", key=("key", "group"))
COUNTS = [0, 1, 63, 64, 65, 200]


class Calls(list[str]):
    """The statements that reached the driver."""

    def note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        self.append(statement)


@pytest.fixture
def tx() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        TABLE.metadata.create_all(connection)
        yield connection
    engine.dispose()


@pytest.fixture
def calls(tx: sa.Connection) -> Iterator[Calls]:
    noted = Calls()
    sa.event.listen(tx, "before_cursor_execute", noted.note)
    yield noted
    sa.event.remove(tx, "before_cursor_execute", noted.note)


def row(number: int, **values: Any) -> dict[str, Any]:
    made = {
        "key": f"k{number:03}", "group": number, "values": {"n": number},
        "when": NOW + timedelta(seconds=number), "body": bytes([number % 256]),
        "check": number % 2 == 0,
    }  # fmt: skip
    return made | values


def change(number: int, **values: Any) -> dict[str, Any]:
    """Return an update of the row of that number."""
    made = {
        "was_key": f"k{number:03}",
        "was_group": number,
        "group": -number,
        "values": ["new"],
        "when": None,
    }
    return made | values


def stored(tx: sa.Connection, *names: str) -> list[dict[str, Any]]:
    columns = [TABLE.c[name] for name in names or INSERT._columns]
    return [
        dict(found) for found in tx.execute(sa.select(*columns).order_by(TABLE.c.key)).mappings()
    ]


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_inserted_64_at_a_time(tx: sa.Connection, calls: Calls, count: int) -> None:
    rows = [row(number) for number in range(count)]
    INSERT(tx, rows)
    assert len(calls) == -(-count // 64)
    assert stored(tx) == rows


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_updated_64_at_a_time(tx: sa.Connection, calls: Calls, count: int) -> None:
    INSERT(tx, [row(number) for number in range(201)])
    calls.clear()
    UPDATE(tx, [change(number) for number in range(count)])
    assert len(calls) == -(-count // 64)
    changed = [row(number, group=-number, values=["new"], when=None) for number in range(count)]
    assert stored(tx) == changed + [row(number) for number in range(count, 201)]


def test_the_same_number_of_rows_is_the_same_text(tx: sa.Connection, calls: Calls) -> None:
    """The driver prepares a text once and caches it."""
    INSERT(tx, [row(number) for number in range(70)])
    INSERT(tx, [row(number) for number in range(100, 170)])
    assert calls[:2] == calls[2:]


@pytest.mark.parametrize(
    "other", [{"was_group": 8}, {"was_key": "k008"}, {"was_key": "missing"}, {"was_group": None}]
)
def test_a_row_whose_key_columns_differ_is_unchanged(
    tx: sa.Connection, other: dict[str, Any]
) -> None:
    before = [row(number) for number in range(10)]
    INSERT(tx, before)
    UPDATE(tx, [change(3), change(7, **other)])
    assert [found["key"] for found in stored(tx) if found not in before] == ["k003"]


def test_a_null_key_matches_no_row(tx: sa.Connection) -> None:
    INSERT(tx, [row(1, group=None), row(2)])
    UPDATE(tx, [change(1, was_group=None), change(2, was_group=None)])
    assert stored(tx) == [row(1, group=None), row(2)]


@pytest.mark.parametrize(
    "values",
    [
        {"when": NOW + timedelta(milliseconds=1)},
        {"values": {"ä": [1.5, None, True, "\u2603"], "n": 2**80}},
        {"values": []},
        {"values": ""},
        {"body": bytes(range(256))},
        {"body": b""},
        {"check": True},
        {"check": False},
        {"group": -(2**63)},
        {"group": None, "values": None, "when": None, "body": None, "check": None},
    ],
    ids=str,
)
def test_an_inserted_value_is_read_back_unchanged(
    tx: sa.Connection, values: dict[str, Any]
) -> None:
    rows = [row(1), row(2, **values), row(3)]
    INSERT(tx, rows)
    assert stored(tx) == rows
    assert all(
        type(a) is type(b) for a, b in zip(stored(tx)[1].values(), rows[1].values(), strict=True)
    )


def test_an_updated_value_is_read_back_unchanged(tx: sa.Connection) -> None:
    """The values are in a CTE, whose columns have no type in SQLite."""
    update = bulk_update(TABLE, "values", "when", "body", "check", key=("key",))
    new = {"values": {"n": 2**80}, "when": NOW, "body": b"\0\xff", "check": False}
    INSERT(tx, [row(2)])
    update(tx, [{"was_key": "k002"} | new])
    assert stored(tx, *new) == [new]


def test_a_text_that_looks_like_a_number_stays_a_text(tx: sa.Connection) -> None:
    INSERT(tx, [row(1, key="0017"), row(2, key="17")])
    UPDATE(tx, [change(1, was_key="0017", group=5)])
    assert stored(tx, "key", "group") == [{"key": "0017", "group": 5}, {"key": "17", "group": 2}]


def test_keys_of_a_row_beyond_the_columns_are_ignored(tx: sa.Connection) -> None:
    INSERT(tx, [row(1, select=1, extra=object())])
    assert stored(tx, "select") == [{"select": 7}]


@pytest.mark.parametrize(("bulk", "missing"), [(INSERT, "body"), (UPDATE, "was_group")])
def test_a_row_without_a_column_is_an_error_before_its_chunk_is_written(
    tx: sa.Connection, calls: Calls, bulk: BulkWrite, missing: str
) -> None:
    rows = [row(number) | change(number) for number in range(3)]
    del rows[2][missing]
    with pytest.raises(KeyError, match=missing):
        bulk(tx, rows)
    assert calls == []


def test_on_conflict_is_part_of_the_statement(tx: sa.Connection) -> None:
    add = bulk_insert(
        TABLE, "key", "group",
        on_conflict=lambda made: made.on_conflict_do_update(
            index_elements=["key"], set_={"group": TABLE.c.group + made.excluded.group}
        ),
    )  # fmt: skip
    INSERT(tx, [row(number) for number in range(100)])
    add(tx, [{"key": f"k{number:03}", "group": 1000} for number in range(50, 150)])
    groups = [found["group"] for found in stored(tx, "group")]
    assert groups == [*range(50), *range(1050, 1100), *([1000] * 50)]


def test_without_on_conflict_a_conflict_is_an_error_and_its_chunk_is_not_written(
    tx: sa.Connection,
) -> None:
    INSERT(tx, [row(5)])
    with pytest.raises(sa.exc.IntegrityError):
        INSERT(tx, [row(number) for number in range(10)])
    assert stored(tx) == [row(5)]


# -- selects

FIND = BulkSelect(
    sa.select(*(TABLE.c[name] for name in INSERT._columns))
    .where(one_of(TABLE.c.key))
    .order_by(TABLE.c.key)
)


@pytest.fixture
def there(database: str) -> Iterator[sa.Connection]:
    """A connection to each kind of database, rolled back at the end."""
    server = postgres.is_postgres(database)
    engine = postgres.engine_of(database, 1) if server else sqlite.engines(database)[0]
    with engine.connect() as connection, connection.begin() as transaction:
        TABLE.metadata.create_all(connection)
        yield connection
        transaction.rollback()
    engine.dispose()


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_found_by_64_values_at_a_time(there: sa.Connection, count: int) -> None:
    INSERT(there, [row(number) for number in range(250)])
    noted = Calls()
    sa.event.listen(there, "before_cursor_execute", noted.note)
    found = FIND(there, [f"k{number:03}" for number in range(count)])
    assert [dict(zip(INSERT._columns, values, strict=True)) for values in found] == [
        row(number) for number in range(count)
    ]
    assert len(noted) == -(-count // 64)


def test_a_missing_value_selects_no_row_and_a_repeated_value_selects_its_row_once(
    there: sa.Connection,
) -> None:
    INSERT(there, [row(1), row(2)])
    assert [found[0] for found in FIND(there, ["k002", "k009", "k002", "k002", "missing"])] == [
        "k002"
    ]


def test_selected_rows_equal_those_of_sqlalchemy(there: sa.Connection) -> None:
    empty = {"group": None, "values": None, "when": None, "body": None, "check": None}
    INSERT(
        there,
        [
            row(1),
            row(2, **empty),
            row(3, values={"n": 2**80, "ä": [None]}, check=False, body=b"\0\xff"),
        ],
    )
    expected = [
        list(found) for found in there.execute(FIND.select, {"values": ["k001", "k002", "k003"]})
    ]
    found = FIND(there, ["k001", "k002", "k003"])
    assert found == expected
    assert [[type(value) for value in values] for values in found] == [
        [type(value) for value in values] for values in expected
    ]


def test_seven_texts_serve_any_number_of_values(tx: sa.Connection, calls: Calls) -> None:
    for count in range(1, 130):
        FIND(tx, ["k"] * count)
    assert len(set(calls)) == 7


@pytest.mark.parametrize("count", range(0, 200, 7))
def test_postgresql_gets_all_rows_in_few_sizes(count: int) -> None:
    chunks = list(written(INSERT).chunks([row(number) for number in range(count)]))
    assert [one for chunk in chunks for one in chunk] == [row(number) for number in range(count)]
    assert {len(chunk) for chunk in chunks} <= {*range(1, 9), 16, 32, 64}
    assert len(chunks) <= count // 64 + 4


# -- the text for PostgreSQL


def written(bulk: BulkWrite) -> _CompiledWrite:
    return _CompiledWrite(DIALECTS["postgresql"], bulk._columns, bulk._build)


PRODUCT = {
    "_SAVE": ledger._SAVE,
    "_SAVE_NAMED": ledger._SAVE_NAMED,
    "_STORE": receive_storage._STORE,
    "_EVENTS": outbox._EVENTS,
    "_DELIVERIES": outbox._DELIVERIES,
    "INSERT": INSERT,
    "UPDATE": UPDATE,
}


@pytest.mark.parametrize("bulk", PRODUCT.values(), ids=PRODUCT)
@pytest.mark.parametrize("count", [1, 2, 64])
def test_postgresql_gets_a_placeholder_for_every_value(bulk: BulkWrite, count: int) -> None:
    made = written(bulk)
    text = made.text(count)
    rows: list[dict[str, None]] = [dict.fromkeys(bulk._columns)] * count
    found = [int(number) for number in re.findall(r"\$(\d+)", text)]
    assert found == [*range(1, count * len(bulk._columns) + 1)]
    assert len(found) == len(made.parameters(rows))
    assert "%" not in text


@pytest.mark.parametrize("bulk", [ledger._SAVE, UPDATE])
def test_every_value_of_an_update_is_cast_to_its_type_on_postgresql(bulk: BulkWrite) -> None:
    """In a VALUES list, an uncast NULL would be text and not bigint."""
    text = written(bulk).text(2)
    assert len(re.findall(r"\$\d+::", text)) == text.count("$")
    assert re.search(r"\$\d+::BIGINT", text)


def test_reserved_words_are_quoted_on_postgresql() -> None:
    assert written(bulk_insert(TABLE, "key", "group", "check")).text(2) == (
        'INSERT INTO "order" (key, "group", "check") '
        "VALUES ($1::VARCHAR, $2::INTEGER, $3), ($4::VARCHAR, $5::INTEGER, $6)"
    )
    assert (
        written(bulk_update(TABLE, "select", key=("group",)))
        .text(2)
        .endswith(
            ' UPDATE "order" SET "select"="new".new_select FROM "new"'
            ' WHERE "order"."group" = "new".new_was_group'
        )
    )


def test_postgresql_gets_processed_values() -> None:
    sent = written(INSERT).parameters([row(3), row(4, values=None, when=None)])
    instant = int((NOW + timedelta(seconds=3)).timestamp() * 1000)
    assert sent == (
        "k003",
        3,
        '{"n":3}',
        instant,
        b"\x03",
        False,
        "k004",
        4,
        None,
        None,
        b"\x04",
        True,
    )
