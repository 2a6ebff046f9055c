"""Statements over many rows: what goes in comes out, in as few calls as there are blocks of 64."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.bulk import (
    _POSITIONAL,
    Bulk,
    Finder,
    Row,
    _Written,
    among,
    inserting,
    updating,
)
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.tables.columns import Instant, Json
from orchestrator.engine import receive
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
INSERT = inserting(TABLE, "key", "group", "values", "when", "body", "check")
UPDATE = updating(TABLE, "group", "values", "when", key=("key", "group"))
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
        "key": f"k{number:03}", "group": number, "values": {"n": number}, "when": NOW + timedelta(seconds=number),
        "body": bytes([number % 256]), "check": number % 2 == 0,
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
    return [dict(one) for one in tx.execute(sa.select(*columns).order_by(TABLE.c.key)).mappings()]


@pytest.mark.parametrize("count", COUNTS)
def test_rows_go_in_64_at_a_time(tx: sa.Connection, calls: Calls, count: int) -> None:
    rows = [row(number) for number in range(count)]
    INSERT(tx, rows)
    assert len(calls) == -(-count // 64)
    assert stored(tx) == rows


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_changed_64_at_a_time(tx: sa.Connection, calls: Calls, count: int) -> None:
    INSERT(tx, [row(number) for number in range(201)])
    calls.clear()
    UPDATE(tx, [change(number) for number in range(count)])
    assert len(calls) == -(-count // 64)
    changed = [row(number, group=-number, values=["new"], when=None) for number in range(count)]
    assert stored(tx) == changed + [row(number) for number in range(count, 201)]


def test_as_many_rows_as_before_are_the_same_text_as_before(
    tx: sa.Connection, calls: Calls
) -> None:
    """The driver prepares a text once and finds it again by itself."""
    INSERT(tx, [row(number) for number in range(70)])
    INSERT(tx, [row(number) for number in range(100, 170)])
    assert calls[:2] == calls[2:]


@pytest.mark.parametrize(
    "other", [{"was_group": 8}, {"was_key": "k008"}, {"was_key": "nobody"}, {"was_group": None}]
)
def test_a_row_that_is_not_as_it_was_stays_as_it_is(
    tx: sa.Connection, other: dict[str, Any]
) -> None:
    before = [row(number) for number in range(10)]
    INSERT(tx, before)
    UPDATE(tx, [change(3), change(7, **other)])
    assert [one["key"] for one in stored(tx) if one not in before] == ["k003"]


def test_a_key_that_is_null_is_the_key_of_no_row(tx: sa.Connection) -> None:
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
def test_a_value_comes_out_as_it_went_in(tx: sa.Connection, values: dict[str, Any]) -> None:
    rows = [row(1), row(2, **values), row(3)]
    INSERT(tx, rows)
    assert stored(tx) == rows
    assert all(
        type(a) is type(b) for a, b in zip(stored(tx)[1].values(), rows[1].values(), strict=True)
    )


def test_a_changed_value_comes_out_as_it_went_in(tx: sa.Connection) -> None:
    """The values stand in a CTE, whose columns have no type of their own in SQLite."""
    update = updating(TABLE, "values", "when", "body", "check", key=("key",))
    new = {"values": {"n": 2**80}, "when": NOW, "body": b"\0\xff", "check": False}
    INSERT(tx, [row(2)])
    update(tx, [{"was_key": "k002"} | new])
    assert stored(tx, *new) == [new]


def test_a_text_that_looks_like_a_number_stays_a_text(tx: sa.Connection) -> None:
    INSERT(tx, [row(1, key="0017"), row(2, key="17")])
    UPDATE(tx, [change(1, was_key="0017", group=5)])
    assert stored(tx, "key", "group") == [{"key": "0017", "group": 5}, {"key": "17", "group": 2}]


def test_what_a_row_has_beyond_the_columns_is_left_out(tx: sa.Connection) -> None:
    INSERT(tx, [row(1, select=1, stranger=object())])
    assert stored(tx, "select") == [{"select": 7}]


@pytest.mark.parametrize(("bulk", "missing"), [(INSERT, "body"), (UPDATE, "was_group")])
def test_a_row_that_lacks_a_column_is_an_error_before_its_block_is_written(
    tx: sa.Connection, calls: Calls, bulk: Bulk, missing: str
) -> None:
    rows = [row(number) | change(number) for number in range(3)]
    del rows[2][missing]
    with pytest.raises(KeyError, match=missing):
        bulk(tx, rows)
    assert calls == []


def test_what_a_conflict_does_is_part_of_the_statement(tx: sa.Connection) -> None:
    add = inserting(
        TABLE, "key", "group",
        but=lambda made: made.on_conflict_do_update(
            index_elements=["key"], set_={"group": TABLE.c.group + made.excluded.group}
        ),
    )  # fmt: skip
    INSERT(tx, [row(number) for number in range(100)])
    add(tx, [{"key": f"k{number:03}", "group": 1000} for number in range(50, 150)])
    groups = [one["group"] for one in stored(tx, "group")]
    assert groups == [*range(50), *range(1050, 1100), *([1000] * 50)]


def test_without_one_a_conflict_is_an_error_and_none_of_its_block_is_there(
    tx: sa.Connection,
) -> None:
    INSERT(tx, [row(5)])
    with pytest.raises(sa.exc.IntegrityError):
        INSERT(tx, [row(number) for number in range(10)])
    assert stored(tx) == [row(5)]


# -- what is looked up

FIND = Finder(
    sa.select(*(TABLE.c[name] for name in INSERT._columns))
    .where(among(TABLE.c.key))
    .order_by(TABLE.c.key)
)


@pytest.fixture
def there(database: str) -> Iterator[sa.Connection]:
    """On each kind of database, with what is done undone."""
    server = postgres.is_postgres(database)
    engine = postgres.engine_of(database, 1) if server else sqlite.engines(database)[0]
    with engine.connect() as connection, connection.begin() as undone:
        TABLE.metadata.create_all(connection)
        yield connection
        undone.rollback()
    engine.dispose()


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_found_by_64_values_at_a_time(there: sa.Connection, count: int) -> None:
    INSERT(there, [row(number) for number in range(250)])
    noted = Calls()
    sa.event.listen(there, "before_cursor_execute", noted.note)
    found = FIND(there, [f"k{number:03}" for number in range(count)])
    assert [dict(zip(INSERT._columns, one, strict=True)) for one in found] == [
        row(number) for number in range(count)
    ]
    assert len(noted) == -(-count // 64)


def test_a_value_no_row_has_finds_none_and_one_given_twice_finds_its_row_once(
    there: sa.Connection,
) -> None:
    INSERT(there, [row(1), row(2)])
    assert [one[0] for one in FIND(there, ["k002", "k009", "k002", "k002", "nobody"])] == ["k002"]


def test_what_is_found_is_what_sqlalchemy_finds(there: sa.Connection) -> None:
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
        list(one) for one in there.execute(FIND.select, {"among": ["k001", "k002", "k003"]})
    ]
    found = FIND(there, ["k001", "k002", "k003"])
    assert found == expected
    assert [[type(value) for value in one] for one in found] == [
        [type(value) for value in one] for one in expected
    ]


def test_seven_texts_find_any_number_of_values(tx: sa.Connection, calls: Calls) -> None:
    for count in range(1, 130):
        FIND(tx, ["k"] * count)
    assert len(set(calls)) == 7


def test_a_select_of_constants_alone_is_found_too(there: sa.Connection) -> None:
    INSERT(there, [row(number) for number in range(9)])
    third = Finder(
        sa.select(TABLE.c.key)
        .where(TABLE.c.group > 2, TABLE.c.key > "")
        .order_by(TABLE.c.key)
        .limit(1)
    )
    assert third(there) == [["k003"]]


def test_what_is_found_by_values_has_no_other_parameters(tx: sa.Connection) -> None:
    with pytest.raises(AssertionError):
        Finder(FIND.select.where(TABLE.c.group == 5))(tx, ["k001"])


# -- the same for PostgreSQL, as text


def written(bulk: Bulk) -> _Written:
    return _Written(_POSITIONAL["postgresql"], bulk._columns, bulk._build)


PRODUCT = {
    "_SAVE": ledger._SAVE,
    "_SAVE_NAMED": ledger._SAVE_NAMED,
    "_STORE": receive._STORE,
    "_EVENTS": outbox._EVENTS,
    "_DELIVERIES": outbox._DELIVERIES,
    "INSERT": INSERT,
    "UPDATE": UPDATE,
}


@pytest.mark.parametrize("bulk", PRODUCT.values(), ids=PRODUCT)
@pytest.mark.parametrize("count", [1, 2, 64])
def test_postgresql_gets_a_place_for_every_value(bulk: Bulk, count: int) -> None:
    made = written(bulk)
    text = made.over(count)
    rows: list[Row] = [dict.fromkeys(bulk._columns)] * count
    assert (
        text.count("%s") == text.count("%") == len(made.values(rows)) == count * len(bulk._columns)
    )


@pytest.mark.parametrize("bulk", [ledger._SAVE, UPDATE])
def test_postgresql_is_told_the_type_of_every_value_of_an_update(bulk: Bulk) -> None:
    """In a list of values of its own, a NULL would be text, which is no bigint."""
    text = written(bulk).over(2)
    assert text.count("%s::") == text.count("%s")
    assert "%s::BIGINT" in text


def test_postgresql_reads_reserved_words_as_names() -> None:
    assert written(inserting(TABLE, "key", "group", "check")).over(2) == (
        'INSERT INTO "order" (key, "group", "check") '
        "VALUES (%s::VARCHAR, %s::INTEGER, %s), (%s::VARCHAR, %s::INTEGER, %s)"
    )
    assert (
        written(updating(TABLE, "select", key=("group",)))
        .over(2)
        .endswith(
            ' UPDATE "order" SET "select"="new".new_select FROM "new" WHERE "order"."group" = "new".new_was_group'
        )
    )


def test_postgresql_gets_the_values_a_driver_without_types_of_ours_can_send() -> None:
    sent = written(INSERT).values([row(3), row(4, values=None, when=None)])
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
