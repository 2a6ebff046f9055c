"""The move of a SQLite database to PostgreSQL: exact, continued after any end, refused in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.database.digest import TableDigest
from orchestrator.database.membership import ALONE
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres import move
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.sqlite.snapshot import snapshot
from orchestrator.database.tables import account_state, delivery, event, job, metadata, trace
from orchestrator.foundation.clock import EPOCH, SystemClock, after
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.json_codec import Raw, encode
from tests.harness import databases

#: Rows of each table.
ROWS = 5
TEXTS = ("", "plain", "\u00e9\U0001f3ac\u2028", "tab\tline\nback\\slash\\N", "'quoted\"")
JSON: tuple[object, ...]
JSON = ({}, {"a": [1, 0.1, None, True]}, "\u0000\U0001f3ac", [], {"\u00e9": 1e300})
BYTES = (b"", b"\x00\xff\x80", b'{"signed": "\xc3\xa9"}', b"\\x00", b"\n" * 100)


def value_of(column: sa.Column[Any], n: int) -> object:
    """Return a value of the column's type that is another in each row."""
    if column.nullable and n == 0:
        return None
    kind = type(column.type).__name__
    if kind == "RawJson":
        return Raw(f'{{"a": "\\u0000 {n}"}}')
    if kind == "Json":
        return JSON[n]
    if kind == "Instant":
        return after(EPOCH, 1_700_000_000.001 * n)
    made: dict[type, object] = {
        int: 2**31 - 1 - n, float: 0.1 + n, bool: bool(n % 2), bytes: BYTES[n],
    }  # fmt: skip
    return f"{TEXTS[n]}{n}" if kind == "AutoString" else made[column.type.python_type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A SQLite file with rows in every table, and gaps between the rowids of events."""
    engine = sqlite.engines(databases.url("sqlite", tmp_path))[0]
    with engine.begin() as tx:
        for table in metadata.sorted_tables:
            for n in range(ROWS):
                row = {column.name: value_of(column, n) for column in table.columns}
                tx.execute(sa.insert(table), row | ({"position": None} if table is event else {}))
        tx.execute(sa.update(event).values(position=sa.null()))
        tx.exec_driver_sql("UPDATE event SET rowid = rowid * 10 + 1 WHERE rowid > 2")
    engine.dispose()
    return tmp_path / "test.db"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database on PostgreSQL."""
    address = databases.url("postgresql", tmp_path, empty=True)
    engine = postgres.engine_of(address, 2)
    yield engine
    engine.dispose()
    databases.drop(address)


def moved(source: Path, target: sa.Engine, report: move.Report = lambda *_: None) -> Any:
    with snapshot(source) as reading:
        return move.move(reading, target, report)


def rows(tx: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows with their types, but for the positions of events."""
    return {
        table.name: sorted(
            (
                tuple(encode(value) if isinstance(value, Raw) else value for value in row)
                for row in tx.execute(sa.select(*columns))
            ),
            key=repr,
        )
        for table in metadata.sorted_tables
        for columns in [[one for one in table.columns if one is not event.c.position]]
    }


def assert_same(source: Path, target: sa.Engine) -> None:
    with snapshot(source) as ours, target.connect() as theirs:
        assert rows(ours) == rows(theirs)


def test_every_value_of_every_table_is_moved_exactly_in_batches_bounded_by_bytes(
    source: Path, target: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "BATCH_BYTES", 1)
    before = source.read_bytes()
    batches: list[tuple[str, str, int]] = []
    digests = moved(source, target, lambda *batch: batches.append(batch))
    # One row of `subscriber_version` is the trigger's own.
    assert {name: digest.rows for name, digest in digests.items()} == {
        name: ROWS + (name == "subscriber_version") for name in metadata.tables
    }
    assert batches.count(("copying", "job", 1)) == ROWS
    assert_same(source, target)
    assert source.read_bytes() == before
    with target.connect() as tx:
        schema.check(tx)


def test_what_the_source_had_claimed_is_due_after_the_move(source: Path, target: sa.Engine) -> None:
    now = SystemClock().now()
    claim = {"claimed_by": ALONE, "due_at": after(now, 60), "lease": 1}
    writing = sqlite.engines(f"sqlite:///{source}")[0]
    with writing.begin() as tx:
        tx.execute(sa.update(job).values(claim | {"state": "submitting"}))
        tx.execute(sa.update(delivery).values(claim))
    writing.dispose()
    moved(source, target)
    with target.connect() as tx:
        for table in (job, delivery):
            found = tx.execute(sa.select(table.c.claimed_by, table.c.due_at)).all()
            assert len(found) == ROWS
            assert all(by is None and due < after(now, 60) for by, due in found)


def test_events_keep_their_order_and_new_rows_come_after_all(
    source: Path, target: sa.Engine
) -> None:
    moved(source, target)
    with snapshot(source) as ours:
        order = ours.exec_driver_sql("SELECT rowid, id FROM event ORDER BY rowid").all()
        newest = ours.scalar(sa.select(sa.func.max(trace.c.id)))
    with target.begin() as tx:
        found = tx.execute(sa.select(event.c.position, event.c.id).order_by(event.c.position))
        assert found.all() == order
        row = {column.name: value_of(column, 1) for column in event.columns}
        fresh = {**row, "id": "evt_new", "job_id": "another"}
        del fresh["position"]
        tx.execute(sa.insert(event), fresh)
        position = tx.scalar(sa.select(event.c.position).where(event.c.id == "evt_new"))
        assert position == order[-1][0] + 1
        added = sa.insert(trace).values(job_id="j", at=EPOCH, kind="submit", detail={})
        assert tx.scalar(added.returning(trace.c.id)) == newest + 1


class _Killed(Exception):
    """Ends a move."""


def test_a_move_that_ends_at_any_point_is_continued(
    source: Path, target: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "BATCH_ROWS", 2)

    def killed(doing: str, table: str, rows: int) -> None:
        raise _Killed

    # Every call copies one batch more, or begins to compare.
    for _ in range(len(metadata.tables) * 3 + 1):
        with pytest.raises(_Killed):
            moved(source, target, killed)
        with target.connect() as tx, pytest.raises(ConfigError, match="unfinished move"):
            schema.check(tx, allow_empty=True)
    moved(source, target)
    assert_same(source, target)


def test_a_target_in_use_is_refused_and_left_alone(source: Path, target: sa.Engine) -> None:
    with target.begin() as tx:
        schema.upgrade(tx)
        tx.execute(sa.insert(account_state), {"account": "main"})
    with pytest.raises(ConfigError, match="in use: there are rows in account_state"):
        moved(source, target)
    with target.connect() as tx:
        schema.check(tx)


def test_a_database_migrated_before_is_as_good_as_an_empty_one(
    source: Path, target: sa.Engine
) -> None:
    with target.begin() as tx:
        schema.upgrade(tx)
    moved(source, target)
    assert_same(source, target)


def test_only_the_same_state_of_the_same_source_continues(source: Path, target: sa.Engine) -> None:
    def killed(*_: object) -> None:
        raise _Killed

    with pytest.raises(_Killed):
        moved(source, target, killed)
    with sqlite.engines(f"sqlite:///{source}")[0].begin() as tx:
        tx.exec_driver_sql("DELETE FROM trace WHERE id = (SELECT min(id) FROM trace)")
    with pytest.raises(ConfigError, match="of another database, or of an earlier state"):
        moved(source, target)


def test_a_difference_is_found_and_nothing_starts_on_it(source: Path, target: sa.Engine) -> None:
    def changed(doing: str, table: str, _rows: int) -> None:
        if (doing, table) == ("copying", "job"):
            with target.begin() as tx:
                tx.execute(sa.update(job).values(version=job.c.version - 1))

    with pytest.raises(ConfigError, match=f"job differs after the move: {ROWS} rows here"):
        moved(source, target, changed)
    with target.connect() as tx, pytest.raises(ConfigError, match="unfinished move"):
        schema.check(tx)


def test_a_value_that_does_not_fit_is_named_with_its_table(source: Path, target: sa.Engine) -> None:
    with sqlite.engines(f"sqlite:///{source}")[0].begin() as tx:
        tx.execute(sa.update(job).values(model="a\0b"))
    with pytest.raises(ConfigError, match=r"^job: .* 0x00 .* column model"):
        moved(source, target)


def test_the_digest_of_an_empty_table_is_zero() -> None:
    from orchestrator.database.digest import digest_of

    assert digest_of([]) == TableDigest(0, "0" * 64)
    assert digest_of([(1, "a"), (2, b"a")]) == digest_of([(2, b"a"), (1, "a")])
    assert digest_of([(1, "a")]) != digest_of([(1, b"a")])
