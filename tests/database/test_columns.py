"""Column types: instants and JSON values are read back unchanged and stored as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.database.tables.columns import Instant, Json

NOW = datetime(2026, 11, 20, 10, 0, 0, 123_000, tzinfo=UTC)
TABLE = sa.Table("kept", sa.MetaData(), sa.Column("at", Instant), sa.Column("value", Json))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
)


def nested(depth: int) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = {"in": [value]}
    return value


@pytest.fixture(scope="module")
def tx() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        TABLE.metadata.create_all(connection)
        yield connection
    engine.dispose()


def kept(tx: sa.Connection, column: str, value: Any) -> tuple[Any, Any]:
    """Store a value; return it as read back, and as stored."""
    tx.execute(sa.delete(TABLE))
    tx.execute(sa.insert(TABLE), [{column: value}])
    return tx.execute(sa.select(TABLE.c[column])).scalar_one(), tx.exec_driver_sql(
        f"SELECT {column} FROM kept"
    ).scalar()


@pytest.mark.parametrize(
    ("at", "ms"),
    [
        (NOW, 1795168800123),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), -1),
        (datetime(1, 1, 1, tzinfo=UTC), -62135596800000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), 253402300799999),
        (None, None),
    ],
    ids=str,
)
def test_an_instant_is_stored_as_milliseconds(
    tx: sa.Connection, at: datetime | None, ms: int | None
) -> None:
    assert kept(tx, "at", at) == (at, ms)


@settings(max_examples=50)
@given(at=st.datetimes(timezones=st.timezones()))
def test_an_instant_of_any_zone_is_read_in_utc_cut_to_the_millisecond(
    tx: sa.Connection, at: datetime
) -> None:
    back, _ = kept(tx, "at", at)
    assert back.tzinfo is UTC
    assert timedelta(0) <= at - back < timedelta(milliseconds=1)


def test_instants_sort_by_time_whatever_their_zone(tx: sa.Connection) -> None:
    zones = [UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-8))]
    sent = [(NOW + timedelta(minutes=n)).astimezone(zones[n % 3]) for n in range(-30, 30)]
    tx.execute(sa.delete(TABLE))
    tx.execute(sa.insert(TABLE), [{"at": at} for at in reversed(sent)])
    assert list(tx.scalars(sa.select(TABLE.c.at).order_by(TABLE.c.at))) == sent
    assert (
        list(tx.scalars(sa.select(TABLE.c.at).where(TABLE.c.at < sent[7]).order_by(TABLE.c.at)))
        == sent[:7]
    )


def test_an_instant_without_a_zone_is_refused(tx: sa.Connection) -> None:
    with pytest.raises(sa.exc.StatementError, match="offset-naive"):
        kept(tx, "at", NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ({}, "{}"),
        ([], "[]"),
        ("", '""'),
        (0, "0"),
        (False, "false"),
        ([None], "[null]"),
        ({"a": 1, "b": [True, 1.5]}, '{"a":1,"b":[true,1.5]}'),
        ({"name": "Ä ☃ 猫 🎬"}, '{"name":"Ä ☃ 猫 🎬"}'),
        (2**63, str(2**63)),
        ({"big": -(2**200)}, f'{{"big":{-(2**200)}}}'),
        ({"big": 2**64, "name": "猫"}, f'{{"big":{2**64},"name":"猫"}}'),
        ({"z": 1, "a": 2}, '{"z":1,"a":2}'),
        ('"\\\n\x1f', '"\\"\\\\\\n\\u001f"'),
    ],
    ids=str,
)
def test_a_json_value_is_stored_as_compact_text(
    tx: sa.Connection, value: Any, text: str | None
) -> None:
    assert kept(tx, "value", value) == (value, text)


def test_none_is_sql_null_and_a_null_inside_a_value_is_not(tx: sa.Connection) -> None:
    missing = sa.select(sa.func.count()).where(TABLE.c.value.is_(None))
    kept(tx, "value", None)
    assert tx.scalar(missing) == 1
    kept(tx, "value", {"error": None})
    assert tx.scalar(missing) == 0


@pytest.mark.parametrize("depth", [1, 126, 127, 128, 150])
def test_a_value_of_any_depth_is_read_back(tx: sa.Connection, depth: int) -> None:
    """Two levels for each: orjson stops at 254, and a caller may send more."""
    back, text = kept(tx, "value", nested(depth))
    assert back == nested(depth)
    assert text == '{"in":[' * depth + '"core"' + "]}" * depth


@settings(max_examples=50)
@given(value=JSON)
def test_any_json_value_is_read_back(tx: sa.Connection, value: Any) -> None:
    back, text = kept(tx, "value", value)
    assert back == value
    assert json.dumps(back) == json.dumps(value)
    assert text is None or json.loads(text) == value


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", {"in": [object()]}],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_is_not_json_is_refused(tx: sa.Connection, value: Any) -> None:
    with pytest.raises(sa.exc.StatementError, match="is not JSON"):
        kept(tx, "value", value)
