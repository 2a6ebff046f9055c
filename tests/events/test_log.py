"""The log in the order of its commits: nothing appears behind a place where a reader may have gone on."""

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
    """Write an event as `fan_out` does: without a place."""
    columns = "id, sequence, type, source, body, created_at"
    values = [event_id, json.dumps({"id": event_id}).encode()]
    writer.execute(
        f"INSERT INTO event ({columns}) VALUES (%s, 1, 'job.failed', 'push', %s, 0)", values
    )


def put(
    tx: Tx, *numbers: int, size: int = 2, kind: str = "job.failed", about: str | None = None
) -> None:
    """Write events; the higher the number, the later the id."""
    rows = [
        {"id": an_id(n), "sequence": n, "type": kind, "source": "push", "body": b"x" * size, "created_at": START,
         "job_id": about} for n in numbers
    ]  # fmt: skip
    for row in rows:
        tx.execute(sa.insert(event).values(**row))


class Reader:
    """Reads on from where it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._place = 0
        self.known = Watermark()
        self.seen: list[str] = []

    async def read(self) -> list[str]:
        """Return the ids of what can be read now."""
        self.known = await self._store.read(log.watermark, self.known)
        page = await self._store.read(
            log.read_batch, self._place, self.known.upto, ALL, 1000, 1 << 20
        )
        self._place = max(self._place, page.place)
        found = [row["id"] for row in page.rows]
        self.seen += found
        return found


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
async def test_what_is_committed_first_waits_for_what_was_begun_before(
    address: str, first: int, second: int
) -> None:
    """Two writers whose commits are inverted, whichever of them made the smaller id."""
    with (
        opened(address) as store,
        psycopg.connect(address) as slow,
        psycopg.connect(address) as quick,
    ):
        reader = Reader(store)
        assert await reader.read() == []
        insert(slow, an_id(first))
        insert(quick, an_id(second))
        quick.commit()
        assert await reader.read() == []
        assert await reader.read() == [], (
            "the one is there, but a reader who had gone on after it would miss the other"
        )
        slow.commit()
        assert await reader.read() == [an_id(first), an_id(second)]


async def test_a_transaction_that_is_taken_back_holds_nothing_up_any_more(address: str) -> None:
    with (
        opened(address) as store,
        psycopg.connect(address) as slow,
        psycopg.connect(address) as quick,
    ):
        reader = Reader(store)
        insert(slow, an_id(1))
        insert(quick, an_id(2))
        quick.commit()
        assert await reader.read() == []
        slow.rollback()
        assert await reader.read() == [an_id(2)]


async def test_later_writers_do_not_hold_up_what_was_there_before_them(address: str) -> None:
    """However many write all the time, a reader waits for those alone that wrote when it looked."""
    with (
        opened(address) as store,
        psycopg.connect(address) as one,
        psycopg.connect(address) as other,
    ):
        reader = Reader(store)
        insert(one, an_id(1))
        await reader.read()
        insert(other, an_id(2))
        one.commit()
        assert await reader.read() == [an_id(1)]
        insert(one, an_id(3))
        other.commit()
        assert await reader.read() == [an_id(2)]
        one.commit()
        assert await reader.read() == [an_id(3)]


async def test_long_transactions_of_others_hold_nothing_up(address: str) -> None:
    with (
        opened(address) as store,
        psycopg.connect(address) as other,
        psycopg.connect(address) as writer,
    ):
        other.execute("INSERT INTO trace (job_id, at, kind, detail) VALUES ('', 0, '', '{}')")
        other.execute("SELECT count(*) FROM event")
        insert(writer, an_id(1))
        writer.commit()
        assert await Reader(store).read() == [an_id(1)]


async def test_readers_beside_busy_writers_see_everything_once_and_all_in_one_order(
    address: str,
) -> None:
    """Writers that commit and take back at random, with ids that say nothing of the order."""
    committed: list[str] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        with psycopg.connect(address) as writer:
            for n in range(60):
                made = [an_id(rng.getrandbits(60)) for _ in range(rng.randint(1, 3))]
                for one in made:
                    insert(writer, one)
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


async def test_a_reader_goes_on_after_what_it_has_seen(h: Harness) -> None:
    await h.runtime.store.write(put, 5, 3, 4)
    known = await h.runtime.store.read(log.watermark, Watermark())
    mark = await h.runtime.store.read(log.cursor_of, an_id(3), an_id(0), NOW)
    page = await h.runtime.store.read(log.read_batch, mark.place, known.upto, ALL)
    assert [row["id"] for row in page.rows] == [an_id(4)], "in the order of writing, not of ids"
    assert not mark.gap
    end = await h.runtime.store.read(log.end, known, NOW)
    assert (end.id, end.gap) == (an_id(4), False)
    assert not (await h.runtime.store.read(log.read_batch, end.place, known.upto, ALL)).rows


async def test_a_page_is_small_and_says_how_far_it_goes(h: Harness) -> None:
    store = h.runtime.store
    await store.write(lambda tx: put(tx, *range(1, 4), size=log.BYTES // 2))
    await store.write(lambda tx: put(tx, *range(4, 7), kind="job.submitted", about="job_x"))
    await store.write(lambda tx: put(tx, 7, size=log.BYTES * 3))
    upto = (await store.read(log.watermark, Watermark())).upto

    async def of(
        wanted: EventFilter, place: int = 0, most: int = log.ROWS
    ) -> tuple[list[int], bool, EventBatch]:
        page = await store.read(log.read_batch, place, upto, wanted, most)
        return [int(row["id"][4:]) for row in page.rows], page.more, page

    seen, more, page = await of(ALL)
    assert (seen, more, page.last) == ([1, 2], True, an_id(2)), "no more than there is room for"
    assert (await of(ALL, page.place))[:2] == ([3, 4, 5, 6], True)
    assert (await of(ALL, (await of(ALL, page.place))[2].place))[:2] == ([7], False), (
        "one at least, however large"
    )
    submitted = EventFilter(frozenset({"job.submitted"}))
    assert (await of(submitted, most=2))[:2] == ([4, 5], True)
    seen, more, page = await of(submitted)
    assert (seen, more, page.place) == ([4, 5, 6], False, upto), (
        "as far as was looked, though nothing is there"
    )
    assert (await of(EventFilter(job="job_x")))[0] == [4, 5, 6]
    assert (await of(EventFilter(frozenset({"job.failed"}), "job_x")))[:2] == ([], False)


async def test_a_page_looks_at_so_many_events_at_most_for_what_is_rare(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wants what there is little of, and was away for long, has the log read a part at a time."""
    monkeypatch.setattr(log, "LOOK", 4)
    await h.runtime.store.write(lambda tx: put(tx, *range(1, 11), kind="job.succeeded"))
    await h.runtime.store.write(lambda tx: put(tx, 11))
    upto = (await h.runtime.store.read(log.watermark, Watermark())).upto
    page, said = EventBatch([], 0, more=True), list[tuple[str | None, bool]]()
    while page.more:
        page = await h.runtime.store.read(
            log.read_batch, page.place, upto, EventFilter(frozenset({"job.failed"}))
        )
        said.append((page.last, page.more))
    assert said == [(an_id(4), True), (an_id(8), True), (None, False)]
    assert ([row["id"] for row in page.rows], page.place) == ([an_id(11)], upto)


async def test_what_is_not_there_any_more_leaves_a_gap(h: Harness) -> None:
    """Reading goes on as near to it as can be."""
    recent = h.runtime.ids("evt")
    later = h.runtime.ids("evt")

    def write(tx: Tx) -> None:
        put(tx, 1)
        row = {
            "sequence": 1,
            "type": "job.failed",
            "source": "push",
            "body": b"",
            "created_at": START,
        }
        tx.execute(sa.insert(event).values(id=recent, **row))

    async def mark(event_id: str) -> tuple[str, bool]:
        found = await h.runtime.store.read(log.cursor_of, event_id, OLDEST, NOW)
        return found.id, found.gap

    assert await mark(recent) == (NOW, True), "nothing is there"
    await h.runtime.store.write(write)
    assert await mark(recent) == (recent, False)
    assert await mark(later) == (recent, True), "never made"
    assert await mark(an_id(0)) == (NOW, True), "deleted"
    assert await mark(an_id(1)) == (an_id(1), True), "there, but what came after it may be deleted"
    assert (await h.runtime.store.read(log.cursor_of, NOW, OLDEST, NOW)).place == 0


async def test_the_end_of_an_empty_log_is_where_everything_comes_after(h: Harness) -> None:
    known = await h.runtime.store.read(log.watermark, Watermark())
    end = await h.runtime.store.read(log.end, known, NOW)
    await h.runtime.store.write(put, 1)
    mark = await h.runtime.store.read(log.cursor_of, end.id, OLDEST, NOW)
    upto = (await h.runtime.store.read(log.watermark, known)).upto
    page = await h.runtime.store.read(log.read_batch, mark.place, upto, ALL)
    assert ([row["id"] for row in page.rows], mark.gap) == ([an_id(1)], False)


async def test_on_sqlite_a_place_that_is_given_out_twice_is_noticed(tmp_path: Path) -> None:
    with opened(databases.url("sqlite", tmp_path)) as store:
        await store.write(put, 1, 2)
        known = await store.read(log.watermark, Watermark())
        end = await store.read(log.end, known, NOW)
        assert await store.read(log.stands, end)
        await store.write(
            lambda tx: tx.execute(sa.delete(event).where(event.c.id == an_id(2))) and None
        )
        assert not await store.read(log.stands, end)
        await store.write(put, 3)
        assert (await store.read(log.watermark, known)).upto == end.place, "the same number"
        assert not await store.read(log.stands, end)


def test_events_from_before_are_numbered_by_their_age(tmp_path: Path) -> None:
    """PostgreSQL goes on counting after them."""
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
    assert [one for (one,) in found] == [an_id(n) for n in (1, 2, 3, 0)]


def test_a_log_that_was_long_before_it_had_numbers_gets_them_for_its_end(tmp_path: Path) -> None:
    """To number millions would keep every replica waiting; who comes back to before that is told of a gap."""
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
        assert [one for (one,) in found] == [an_id(3), an_id(4)]
        assert log.cursor_of(connection, an_id(1), OLDEST, NOW) == log.Cursor(0, NOW, gap=True)
        assert not log.cursor_of(connection, an_id(3), an_id(0), NOW).gap
    engine.dispose()
    databases.drop(address)
