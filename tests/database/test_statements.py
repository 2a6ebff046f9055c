"""Statements compiled once: they give what SQLAlchemy gives, and fail as it fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import pytest
import sqlalchemy as sa

from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.statements import Statement, send
from orchestrator.database.tables.columns import Instant, Json

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
TABLE = sa.Table(
    "order",
    sa.MetaData(),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("group", sa.Integer),
    sa.Column("values", Json),
    sa.Column("when", Instant),
)


class Found(TypedDict):
    """Two columns."""

    key: str
    when: datetime


@pytest.fixture
def tx(database: str) -> Iterator[sa.Connection]:
    """A connection to each kind of database with nine rows, rolled back at the end."""
    server = postgres.is_postgres(database)
    engine = postgres.engine_of(database, 1) if server else sqlite.engines(database)[0]
    with engine.connect() as connection, connection.begin() as transaction:
        TABLE.metadata.create_all(connection)
        rows = [
            {"key": f"k{n}", "group": n % 3, "values": [n], "when": NOW + timedelta(seconds=n)}
            for n in range(9)
        ]
        connection.execute(sa.insert(TABLE), rows)
        yield connection
        transaction.rollback()
    engine.dispose()


KEYS: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
SINCE = sa.bindparam("since", type_=TABLE.c.when.type)
FIND = (
    sa.select(TABLE.c.key, TABLE.c.when)
    .where(TABLE.c.key.in_(KEYS), TABLE.c.when >= SINCE, TABLE.c.group != 1)
    .order_by(TABLE.c.key)
)


@pytest.mark.parametrize("keys", [["k2"], ["k2", "k0", "k8"], [f"k{n}" for n in range(9)], []])
def test_rows_equal_those_of_sqlalchemy(tx: sa.Connection, keys: list[str]) -> None:
    values = {"keys": keys, "since": NOW + timedelta(seconds=2)}
    expected = tx.execute(FIND, values).mappings().all()
    assert Statement(FIND).rows(tx, Found, values) == expected
    assert Statement(FIND)(tx, values) == [[*row.values()] for row in expected]


def test_an_update_returns_its_rows_and_takes_constants_and_values(tx: sa.Connection) -> None:
    update = sa.update(TABLE).where(TABLE.c.key.in_(KEYS))
    update = update.values(group=TABLE.c.group + 10, values=sa.bindparam("new", type_=Json))
    statement = Statement(update.returning(TABLE.c.key, TABLE.c.group, TABLE.c["values"]))
    rows = statement(tx, {"keys": ["k1", "k2", "k5"], "new": {"a": None}})
    assert sorted(rows) == [
        ["k1", 11, {"a": None}],
        ["k2", 12, {"a": None}],
        ["k5", 12, {"a": None}],
    ]


def test_what_is_sent_is_seen_by_what_follows(tx: sa.Connection) -> None:
    update = Statement(sa.update(TABLE).where(TABLE.c.key == sa.bindparam("one")).values(group=7))
    update.send(tx, {"one": "k4"})
    assert tx.scalar(sa.select(TABLE.c.group).where(TABLE.c.key == "k4")) == 7


def test_few_texts_serve_lists_of_any_length(tx: sa.Connection) -> None:
    texts = set[str]()
    sa.event.listen(tx, "before_cursor_execute", lambda *called: texts.add(called[2]))
    find = Statement(FIND)
    for count in range(1, 65):
        find(tx, {"keys": ["k0"] * count, "since": NOW})
    assert len(texts) == (1 if tx.dialect.name == "postgresql" else 7)


def test_an_error_is_that_of_sqlalchemy(tx: sa.Connection) -> None:
    key = (tx.dialect.name == "postgresql" and "$1") or "?"
    with pytest.raises(sa.exc.IntegrityError) as caught, tx.begin_nested():
        send(tx, f"""INSERT INTO "order" (key) VALUES ({key})""", ("k1",))
    assert caught.value.orig is not None
    assert tx.scalar(sa.select(sa.func.count()).select_from(TABLE)) == 9


def test_a_missing_parameter_is_named(tx: sa.Connection) -> None:
    with pytest.raises(KeyError, match="since"):
        Statement(FIND)(tx, {"keys": ["k1"]})
