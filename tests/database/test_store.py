"""Units of work: committed together, failing alone, durable before they are acknowledged."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.backend import Sqlite
from orchestrator.database.sqlite import writer
from orchestrator.database.sqlite.engine import CHECKPOINT
from orchestrator.database.store import Batch, Store, Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.errors import Unavailable
from tests.harness import databases

Put = Callable[[Tx, list[str]], list[str]]
_CHECKPOINT = "PRAGMA wal_autocheckpoint"


def put(tx: Tx, name: str) -> str:
    tx.execute(sa.insert(account_state), [{"account": name}])
    return name


def put_all(tx: Tx, names: list[str]) -> list[str]:
    tx.execute(sa.insert(account_state), [{"account": name} for name in names])
    return [name.upper() for name in names]


def names(tx: Tx) -> set[str]:
    return set(tx.scalars(sa.select(account_state.c.account)))


def _change_nothing(tx: Tx) -> None:
    """Write, so that the commit waits for the disk: on the thread."""
    put(tx, "gate")
    tx.execute(sa.delete(account_state).where(account_state.c.account == "gate"))


class Gate:
    """A commit that waits until the gate is opened, so that later units share the next one."""

    def __init__(self, store: Store) -> None:
        self._open, self._reached = threading.Event(), threading.Event()
        assert isinstance(store._database, Sqlite)
        sa.event.listen(store._database._engine, "commit", self._wait)
        self._passed = asyncio.ensure_future(store.write(_change_nothing))

    def _wait(self, _: Tx) -> None:
        self._reached.set()
        assert self._open.wait(10)

    async def reached(self) -> None:
        """Return once a commit waits at the gate."""
        assert await asyncio.to_thread(self._reached.wait, 10)

    async def open(self) -> None:
        self._open.set()
        await self._passed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(databases.url("sqlite", tmp_path).removeprefix("sqlite:///"))


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Store]:
    opened = Store(f"sqlite:///{file}")
    opened.start()
    yield opened
    opened.close()


async def held(store: Store) -> Gate:
    gate = Gate(store)
    await gate.reached()
    return gate


#: The setting for whether a commit waits for the disk, and its values if it does and does not.
DURABILITY = {
    "sqlite": ("PRAGMA synchronous", 2, 1),
    "postgresql": ("SHOW synchronous_commit", "on", "off"),
}


@pytest.mark.usefixtures("synced")
async def test_only_a_claim_does_not_wait_for_the_disk(database: str) -> None:
    """An acknowledged write may not be lost with the power; a claim may."""
    ask, waits, does_not = DURABILITY[database.partition(":")[0]]
    store = Store(database)
    store.start()

    def asked(tx: Tx) -> object:
        return tx.exec_driver_sql(ask).scalar()

    try:
        found = [await run(asked) for run in (store.write, store.claim, store.write)]
        assert found == [waits, does_not, waits]
    finally:
        store.close()


@pytest.mark.usefixtures("synced")
async def test_a_claim_that_shares_a_commit_with_writes_waits_for_the_disk(store: Store) -> None:
    gate = await held(store)
    both = [
        asyncio.ensure_future(store.claim(put, "a")),
        asyncio.ensure_future(store.write(put, "b")),
    ]
    setting = asyncio.ensure_future(
        store.claim(lambda tx: tx.exec_driver_sql("PRAGMA synchronous").scalar())
    )
    await gate.open()
    assert await asyncio.gather(*both) == ["a", "b"]
    assert await setting == 2


@pytest.mark.usefixtures("synced")
async def test_a_claim_is_committed_without_the_thread_that_waits_for_the_disk(
    tmp_path: Path,
) -> None:
    threads = list[ThreadPoolExecutor]()

    def executor(count: int, name: str) -> ThreadPoolExecutor:
        threads.append(ThreadPoolExecutor(count, name))
        return threads[-1]

    store = Store(f"sqlite:///{tmp_path / 'claims.db'}", executor)
    store.start()
    try:
        assert await store.claim(put, "a") == "a"
        # Nor is a unit that has written nothing.
        assert await store.write(names) == {"a"}
        assert not any(pool._threads for pool in threads)
        assert await store.write(put, "b") == "b"
        assert any(pool._threads for pool in threads)
    finally:
        store.close()


class CommitThreads:
    """Of each commit: whether the loop ran it, and after how many pages it checkpoints."""

    def __init__(self, store: Store) -> None:
        assert isinstance(store._database, Sqlite)
        self.seen: list[tuple[bool, int]] = []
        self._loop = threading.get_ident()
        sa.event.listen(store._database._engine, "commit", self._note)

    def _note(self, tx: Tx) -> None:
        driver: Any = tx.connection.driver_connection
        ((pages,),) = driver.execute(_CHECKPOINT).fetchall()
        self.seen.append((threading.get_ident() == self._loop, pages))


def let_quick(store: Store, seconds: float) -> None:
    """Set how long a quick commit takes."""
    assert isinstance(store._database, Sqlite)
    store._database._writer._quick = seconds


async def put_one_by_one(store: Store, count: int) -> None:
    for n in range(count):
        await store.write(put, f"{n}")


async def test_a_lone_unit_commits_on_the_loop_while_commits_are_quick(store: Store) -> None:
    let_quick(store, 10.0)
    commits = CommitThreads(store)
    await put_one_by_one(store, 3 * writer._IN_A_ROW)
    assert commits.seen.count((True, 0)) > 2 * writer._IN_A_ROW
    # Those on the thread may checkpoint, so that the log does not grow for ever.
    assert commits.seen.count((False, CHECKPOINT)) >= 2
    assert commits.seen.count((True, 0)) + commits.seen.count((False, CHECKPOINT)) == len(
        commits.seen
    )


async def test_claims_between_them_do_not_put_a_checkpoint_off(store: Store) -> None:
    let_quick(store, 10.0)
    commits = CommitThreads(store)
    for n in range(3):
        for m in range(writer._IN_A_ROW):
            await store.claim(put, f"{n} {m}")
        await store.write(put, f"{n}")
    assert commits.seen.count((False, CHECKPOINT)) == 3


async def test_savepoints_need_few_texts(store: Store) -> None:
    assert isinstance(store._database, Sqlite)
    texts = set[str]()
    driver: Any = store._database._engine.raw_connection().driver_connection
    driver.set_trace_callback(texts.add)
    for n in range(20):
        both = (store.write(put, f"{n}"), store.write(names))
        await asyncio.gather(*both)
    driver.set_trace_callback(None)
    assert len([text for text in texts if text.startswith(("SAVEPOINT", "RELEASE"))]) == 2


async def test_a_unit_that_interrupts_the_process_leaves_no_transaction(store: Store) -> None:
    assert isinstance(store._database, Sqlite)

    def interrupt(tx: Tx) -> None:
        put(tx, "half")
        raise KeyboardInterrupt

    interrupted = store.submit(interrupt, ())
    with pytest.raises(KeyboardInterrupt):
        store._database._writer._next(asyncio.get_running_loop())
    waiting = store.submit(put, ("later",))
    await store.aclose()
    assert await waiting == "later"
    assert not interrupted.done()


async def test_a_slow_disk_keeps_commits_off_the_loop(store: Store) -> None:
    let_quick(store, 0.0)
    commits = CommitThreads(store)
    await put_one_by_one(store, 10)
    assert commits.seen == [(False, CHECKPOINT)] * 10


async def test_a_group_commits_off_the_loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    let_quick(store, 10.0)
    commits = CommitThreads(store)
    await asyncio.gather(*(store.write(put, f"{n}") for n in range(10)))
    assert commits.seen == [(False, CHECKPOINT)]


async def fill_disk(store: Store) -> None:
    """Let the file grow by no more than two pages."""

    def limit(tx: Tx) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one() + 2
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await store.write(limit)


async def test_a_commit_that_fails_fails_its_own_units_alone(store: Store) -> None:
    assert isinstance(store._database, Sqlite)
    fails = iter([True])

    def fail(_: Tx) -> None:
        if next(fails, False):
            raise OSError("the disk is gone")

    sa.event.listen(store._database._engine, "commit", fail)
    with pytest.raises(OSError, match="gone"):
        await store.write(put, "a")
    assert await store.write(put, "b") == "b"
    assert await store.read(names) == {"b"}


async def test_many_items_share_few_commits(store: Store) -> None:
    calls: list[int] = []

    def counted(tx: Tx, items: list[str]) -> list[str]:
        calls.append(len(items))
        return put_all(tx, items)

    batch, before, gate = store.batched(counted), store.commits, await held(store)
    waiting = [asyncio.ensure_future(batch(f"a{n}")) for n in range(600)]
    await asyncio.sleep(0)
    await gate.open()
    assert await asyncio.gather(*waiting) == [f"A{n}" for n in range(600)]
    assert store.commits - before <= 6
    assert len(calls) <= 5


async def test_an_acknowledged_write_is_visible_to_another_connection(
    store: Store, file: Path
) -> None:
    await store.write(put, "main")
    with sqlite3.connect(file) as other:
        assert other.execute("SELECT account FROM account_state").fetchall() == [("main",)]
    other.close()


async def test_a_failing_unit_leaves_nothing_and_fails_no_other(store: Store) -> None:
    def fails(tx: Tx) -> None:
        put(tx, "half")
        raise LookupError("on purpose")

    gate = await held(store)
    units = (store.write(put, "a"), store.write(fails), store.write(put, "b"))
    first, bad, last = (asyncio.ensure_future(unit) for unit in units)
    await asyncio.sleep(0)
    await gate.open()
    assert await first == "a"
    assert await last == "b"
    with pytest.raises(LookupError, match="on purpose"):
        await bad
    assert await store.read(names) == {"a", "b"}


async def test_a_failing_unit_that_is_alone_leaves_nothing_either(store: Store) -> None:
    def fails(tx: Tx) -> None:
        put(tx, "half")
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        await store.write(fails)
    assert await store.read(names) == set()


async def test_a_bad_item_fails_alone_in_its_batch(store: Store) -> None:
    def picky(tx: Tx, items: list[str]) -> list[str]:
        done = put_all(tx, items)
        if "bad" in items:
            raise ValueError("a bad item")
        return done

    batch, gate = store.batched(picky), await held(store)
    waiting = [asyncio.ensure_future(batch(name)) for name in ("a", "bad", "b")]
    await asyncio.sleep(0)
    await gate.open()
    first, bad, last = await asyncio.gather(*waiting, return_exceptions=True)
    assert (first, last) == ("A", "B")
    assert isinstance(bad, ValueError)
    assert await store.read(names) == {"a", "b"}


async def test_a_batch_that_returns_too_few_values_is_an_error(store: Store) -> None:
    batch: Batch[str, str] = store.batched(lambda _, items: [])
    with pytest.raises(ValueError, match="shorter"):
        await batch("a")


async def test_cancelling_the_caller_does_not_undo_the_unit(store: Store) -> None:
    gate = await held(store)
    waiting = asyncio.ensure_future(store.write(put, "main"))
    await asyncio.sleep(0)
    waiting.cancel()
    await gate.open()
    assert await store.write(names) == {"main"}
    assert waiting.cancelled()


async def test_a_failure_without_a_waiter_causes_no_warning(store: Store) -> None:
    def fails(_: Tx) -> None:
        raise LookupError("on purpose")

    gate = await held(store)
    waiting = asyncio.ensure_future(store.write(fails))
    await asyncio.sleep(0)
    waiting.cancel()
    await gate.open()
    assert await store.write(names) == set()


async def test_a_full_disk_is_unavailable_and_recovers(store: Store) -> None:
    await fill_disk(store)
    with pytest.raises(Unavailable, match="disk is full"):
        await store.write(put, "x" * 100_000)
    assert await store.read(names) == set()
    await store.write(lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 1000000") and None)
    assert await store.write(put, "later") == "later"


async def test_a_full_disk_never_undoes_an_acknowledged_unit(store: Store) -> None:
    """SQLite may roll back the whole transaction for one statement: all its units must fail."""
    await fill_disk(store)
    gate = await held(store)
    batch = store.batched(put_all)
    units = (
        store.write(put, "before"),
        batch("item"),
        store.write(put, "x" * 100_000),
        store.write(put, "after"),
    )
    waiting = [asyncio.ensure_future(unit) for unit in units]
    await asyncio.sleep(0)
    await gate.open()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    acknowledged = {result.lower() for result in results if isinstance(result, str)}
    assert isinstance(results[2], Unavailable)
    assert acknowledged == await store.read(names)
    assert await store.write(put, "small") == "small"


async def test_units_beyond_the_backlog_are_refused_at_once(store: Store) -> None:
    gate, batch = await held(store), store.batched(put_all)
    waiting = [asyncio.ensure_future(batch(f"a{n}")) for n in range(9000)]
    await asyncio.sleep(0)
    refused = [task for task in waiting if task.done()]
    assert refused
    assert all(isinstance(task.exception(), Unavailable) for task in refused)
    await gate.open()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert (
        len(await store.read(names))
        == len([result for result in done if isinstance(result, str)])
        == 9000 - len(refused)
    )


async def test_close_commits_waiting_units_and_refuses_new_ones(file: Path) -> None:
    store = Store(f"sqlite:///{file}")
    store.start()
    waiting = [asyncio.ensure_future(store.write(put, f"a{n}")) for n in range(50)]
    await asyncio.sleep(0)
    store.close()
    assert await asyncio.gather(*waiting) == [f"a{n}" for n in range(50)]
    with pytest.raises(Unavailable, match="closed"):
        await store.write(put, "late")
    with sqlite3.connect(file) as other:
        assert other.execute("SELECT count(*) FROM account_state").fetchone() == (50,)
    other.close()


async def test_close_leaves_one_file_with_all_data(file: Path) -> None:
    store = Store(f"sqlite:///{file}")
    store.start()
    await store.write(put, "main")
    store.close()
    wal = file.with_name(file.name + "-wal")
    assert not wal.exists() or wal.stat().st_size == 0


async def test_a_checkpoint_moves_the_log_between_units(store: Store, file: Path) -> None:
    await store.write(put, "main")
    store.checkpoint()
    assert await store.write(put, "other") == "other"
    assert b"main" in await asyncio.to_thread(file.read_bytes)


async def test_a_unit_sees_the_writes_of_earlier_units_in_the_same_commit(store: Store) -> None:
    gate = await held(store)
    waiting = [asyncio.ensure_future(unit) for unit in (store.write(put, "a"), store.write(names))]
    await asyncio.sleep(0)
    await gate.open()
    assert (await asyncio.gather(*waiting))[1] == {"a"}


async def test_a_reader_sees_only_what_is_committed(store: Store) -> None:
    gate = Gate(store)
    await gate.reached()
    late = asyncio.ensure_future(store.write(put, "a"))
    await asyncio.sleep(0)
    assert await store.read(names) == set()
    await gate.open()
    await late
    assert await store.read(names) == {"a"}
