"""The log in commit order: no event becomes visible before a position that was already read."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import event
from orchestrator.events import log
from orchestrator.events.log import EventBatch, EventFilter, Watermark
from orchestrator.foundation.clock import after
from orchestrator.foundation.ids import earliest
from tests.database.test_schema import upto
from tests.harness import databases
from tests.harness.runtime import START, Harness

ALL = EventFilter()
OLDEST = earliest("evt", after(START, -86400))
NOW = earliest("evt", START)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    made = databases.url("postgresql", tmp_path)
    yield made
    databases.drop(made)


@contextmanager
def opened(address: str) -> Iterator[Store]:
    store = Store(address)
    store.start()
    try:
        yield store
    finally:
        store.close()


def an_id(n: int) -> str:
    return f"evt_{n:026d}"


def insert(writer: psycopg.Connection[Any], event_id: str) -> None:
    """Insert an event as `publish` does: without a position."""
    columns = "id, sequence, type, source, body, created_at"
    values = [event_id, json.dumps({"id": event_id}).encode()]
    writer.execute(
        f"INSERT INTO event ({columns}) VALUES (%s, 1, 'job.failed', 'push', %s, 0)", values
    )


def put(
    tx: Tx, *numbers: int, size: int = 2, kind: str = "job.failed", about: str | None = None
) -> None:
    """Insert events; a higher number is a later id."""
    rows = [
        {"id": an_id(n), "sequence": n, "type": kind, "source": "push", "body": b"x" * size,
         "created_at": START, "job_id": about} for n in numbers
    ]  # fmt: skip
    for row in rows:
        tx.execute(sa.insert(event).values(**row))


class Reader:
    """Reads on from its position."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._position = 0
        self.known = Watermark()
        self.seen: list[str] = []

    async def read(self) -> list[str]:
        """Return the ids of the events that can be read now."""
        self.known = await self._store.read(log.watermark, self.known)
        batch = await self._store.read(
            log.read_batch, self._position, self.known.visible, ALL, 1000, 1 << 20
        )
        self._position = max(self._position, batch.position)
        found = [row["id"] for row in batch.rows]
        self.seen += found
        return found


@contextmanager
def reader_and_writers(
    address: str,
) -> Iterator[tuple[Reader, psycopg.Connection[Any], psycopg.Connection[Any]]]:
    with opened(address) as store, psycopg.connect(address) as one, psycopg.connect(address) as two:
        yield Reader(store), one, two


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
async def test_a_committed_event_waits_for_earlier_open_writers(
    address: str, first: int, second: int
) -> None:
    """Two writers commit in inverse order, whichever of them made the smaller id."""
    with reader_and_writers(address) as (reader, slow, quick):
        assert await reader.read() == []
        insert(slow, an_id(first))
        insert(quick, an_id(second))
        quick.commit()
        assert await reader.read() == []
        assert await reader.read() == [], (
            "one event is visible, but a reader that resumed after it would miss the other"
        )
        slow.commit()
        assert await reader.read() == [an_id(first), an_id(second)]


async def test_a_rolled_back_transaction_no_longer_holds_the_watermark_back(address: str) -> None:
    with reader_and_writers(address) as (reader, slow, quick):
        insert(slow, an_id(1))
        insert(quick, an_id(2))
        quick.commit()
        assert await reader.read() == []
        slow.rollback()
        assert await reader.read() == [an_id(2)]


async def test_later_writers_do_not_hold_back_earlier_events(address: str) -> None:
    """Under permanent writes, a reader waits only for the writers that were open when it looked."""
    with reader_and_writers(address) as (reader, first, second):
        insert(first, an_id(1))
        await reader.read()
        insert(second, an_id(2))
        first.commit()
        assert await reader.read() == [an_id(1)]
        insert(first, an_id(3))
        second.commit()
        assert await reader.read() == [an_id(2)]
        first.commit()
        assert await reader.read() == [an_id(3)]


async def test_long_transactions_that_write_no_events_do_not_matter(address: str) -> None:
    with reader_and_writers(address) as (reader, other, writer):
        other.execute("INSERT INTO trace (job_id, at, kind, detail) VALUES ('', 0, '', '{}')")
        other.execute("SELECT count(*) FROM event")
        insert(writer, an_id(1))
        writer.commit()
        assert await reader.read() == [an_id(1)]


async def test_readers_next_to_busy_writers_see_all_events_once_in_one_order(address: str) -> None:
    """Writers commit and roll back at random; their ids do not reflect the order."""
    committed: list[str] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        with psycopg.connect(address) as writer:
            for n in range(60):
                made = [an_id(rng.getrandbits(60)) for _ in range(rng.randint(1, 3))]
                for event_id in made:
                    insert(writer, event_id)
                writer.execute("SELECT pg_sleep(%s)", [rng.random() * 0.01])
                if n % 7 == seed:
                    writer.rollback()
                    continue
                writer.commit()
                committed.extend(made)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    with opened(address) as store:
        early, late = Reader(store), Reader(store)
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            await early.read()
        await early.read()
        while await late.read():
            continue
    assert len(committed) > 200
    assert sorted(early.seen) == sorted(committed)
    assert late.seen == early.seen


async def test_a_reader_resumes_after_the_last_event_it_has_seen(h: Harness) -> None:
    await h.runtime.store.write(put, 5, 3, 4)
    known = await h.runtime.store.read(log.watermark, Watermark())
    begin = await h.runtime.store.read(log.cursor_of, an_id(3), an_id(0), NOW)
    batch = await h.runtime.store.read(log.read_batch, begin.position, known.visible, ALL)
    assert [row["id"] for row in batch.rows] == [an_id(4)], "in the order of writing, not of ids"
    assert not begin.gap
    end = await h.runtime.store.read(log.end, known, NOW)
    assert (end.id, end.gap) == (an_id(4), False)
    assert not (await h.runtime.store.read(log.read_batch, end.position, known.visible, ALL)).rows


async def test_a_batch_is_bounded_and_says_how_far_it_reaches(h: Harness) -> None:
    store = h.runtime.store
    await store.write(lambda tx: put(tx, *range(1, 4), size=log.MAX_BYTES // 2))
    await store.write(lambda tx: put(tx, *range(4, 7), kind="job.submitted", about="job_x"))
    await store.write(lambda tx: put(tx, 7, size=log.MAX_BYTES * 3))
    visible = (await store.read(log.watermark, Watermark())).visible

    async def of(
        wanted: EventFilter, position: int = 0, max_rows: int = log.MAX_ROWS
    ) -> tuple[list[int], bool, EventBatch]:
        batch = await store.read(log.read_batch, position, visible, wanted, max_rows)
        return [int(row["id"][4:]) for row in batch.rows], batch.more, batch

    seen, more, batch = await of(ALL)
    assert (seen, more, batch.last_id) == ([1, 2], True, an_id(2)), "as many as fit"
    assert (await of(ALL, batch.position))[:2] == ([3, 4, 5, 6], True)
    assert (await of(ALL, (await of(ALL, batch.position))[2].position))[:2] == ([7], False), (
        "at least one, however large"
    )
    submitted = EventFilter(frozenset({"job.submitted"}))
    assert (await of(submitted, max_rows=2))[:2] == ([4, 5], True)
    seen, more, batch = await of(submitted)
    assert (seen, more, batch.position) == ([4, 5, 6], False, visible), (
        "as far as was scanned, though no event is there"
    )
    assert (await of(EventFilter(job="job_x")))[0] == [4, 5, 6]
    assert (await of(EventFilter(frozenset({"job.failed"}), "job_x")))[:2] == ([], False)


async def test_a_batch_scans_a_bounded_number_of_events_for_rare_types(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower of rare types that was away for long reads the log in parts."""
    monkeypatch.setattr(log, "MAX_SCAN", 4)
    await h.runtime.store.write(lambda tx: put(tx, *range(1, 11), kind="job.succeeded"))
    await h.runtime.store.write(lambda tx: put(tx, 11))
    visible = (await h.runtime.store.read(log.watermark, Watermark())).visible
    batch, parts = EventBatch([], 0, more=True), list[tuple[str | None, bool]]()
    while batch.more:
        batch = await h.runtime.store.read(
            log.read_batch, batch.position, visible, EventFilter(frozenset({"job.failed"}))
        )
        parts.append((batch.last_id, batch.more))
    assert parts == [(an_id(4), True), (an_id(8), True), (None, False)]
    assert ([row["id"] for row in batch.rows], batch.position) == ([an_id(11)], visible)


async def test_a_deleted_or_unknown_event_leaves_a_gap(h: Harness) -> None:
    """Reading resumes as near to it as possible."""
    recent = h.runtime.ids("evt")
    later = h.runtime.ids("evt")

    def write(tx: Tx) -> None:
        put(tx, 1)
        row = {"sequence": 1, "type": "job.failed", "source": "push", "created_at": START}
        tx.execute(sa.insert(event).values(id=recent, body=b"", **row))

    async def resume(event_id: str) -> tuple[str, bool]:
        found = await h.runtime.store.read(log.cursor_of, event_id, OLDEST, NOW)
        return found.id, found.gap

    assert await resume(recent) == (NOW, True), "the log is empty"
    await h.runtime.store.write(write)
    assert await resume(recent) == (recent, False)
    assert await resume(later) == (recent, True), "never made"
    assert await resume(an_id(0)) == (NOW, True), "deleted"
    assert await resume(an_id(1)) == (an_id(1), True), "present, but later events may be deleted"
    assert (await h.runtime.store.read(log.cursor_of, NOW, OLDEST, NOW)).position == 0


async def test_every_event_comes_after_the_end_of_an_empty_log(h: Harness) -> None:
    known = await h.runtime.store.read(log.watermark, Watermark())
    end = await h.runtime.store.read(log.end, known, NOW)
    await h.runtime.store.write(put, 1)
    begin = await h.runtime.store.read(log.cursor_of, end.id, OLDEST, NOW)
    visible = (await h.runtime.store.read(log.watermark, known)).visible
    batch = await h.runtime.store.read(log.read_batch, begin.position, visible, ALL)
    assert ([row["id"] for row in batch.rows], begin.gap) == ([an_id(1)], False)


async def test_a_position_that_sqlite_reallocates_is_detected(tmp_path: Path) -> None:
    with opened(databases.url("sqlite", tmp_path)) as store:
        await store.write(put, 1, 2)
        known = await store.read(log.watermark, Watermark())
        end = await store.read(log.end, known, NOW)
        assert await store.read(log.is_in_place, end)
        await store.write(
            lambda tx: tx.execute(sa.delete(event).where(event.c.id == an_id(2))) and None
        )
        assert not await store.read(log.is_in_place, end)
        await store.write(put, 3)
        assert (await store.read(log.watermark, known)).visible == end.position, "the same number"
        assert not await store.read(log.is_in_place, end)


def test_the_migration_numbers_old_events_by_age(tmp_path: Path) -> None:
    """PostgreSQL continues the sequence after them."""
    address = databases.url("postgresql", tmp_path, empty=True)
    engine = sa.create_engine(sa.make_url(address).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        schema.upgrade(connection, upto("0005", tmp_path / "before"))
    with psycopg.connect(address) as writer:
        for n in (3, 1, 2):
            insert(writer, an_id(n))
    with engine.begin() as connection:
        assert schema.upgrade(connection, upto("0006", tmp_path / "after")) == ["0006"]
    engine.dispose()
    with psycopg.connect(address) as writer:
        insert(writer, an_id(0))
        found = writer.execute("SELECT id FROM event ORDER BY position").fetchall()
    databases.drop(address)
    assert [event_id for (event_id,) in found] == [an_id(n) for n in (1, 2, 3, 0)]


def test_the_migration_numbers_only_the_newest_events_of_a_long_log(tmp_path: Path) -> None:
    """Numbering millions would block all replicas; a reader that resumes before them gets a gap."""
    address = databases.url("postgresql", tmp_path, empty=True)
    engine = sa.create_engine(sa.make_url(address).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        schema.upgrade(connection, upto("0005", tmp_path / "before"))
    with psycopg.connect(address) as writer:
        for n in (3, 1, 2, 4):
            insert(writer, an_id(n))
    (script,) = (folder := upto("0006", tmp_path / "after")).glob("versions/0006*.py")
    short = re.sub("_NEWEST = .*", "_NEWEST = 2", script.read_text(encoding="utf-8"))
    script.write_text(short, encoding="utf-8")
    with engine.begin() as connection:
        schema.upgrade(connection, folder)
        found = connection.execute(
            sa.text("SELECT id FROM event WHERE position IS NOT NULL ORDER BY position")
        )
        assert [event_id for (event_id,) in found] == [an_id(3), an_id(4)]
        assert log.cursor_of(connection, an_id(1), OLDEST, NOW) == log.Cursor(0, NOW, gap=True)
        assert not log.cursor_of(connection, an_id(3), an_id(0), NOW).gap
    engine.dispose()
    databases.drop(address)
