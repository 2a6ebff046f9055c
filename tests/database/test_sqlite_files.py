"""Other programs and the files of an open SQLite database: what was lost is not acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.database.backend import Sqlite
from orchestrator.database.sqlite import writer
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.errors import Unavailable
from tests.harness import databases


def put(tx: Tx, name: str) -> str:
    tx.execute(sa.insert(account_state), [{"account": name}])
    return name


def names(tx: Tx) -> set[str]:
    return set(tx.scalars(sa.select(account_state.c.account)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return Path(databases.url("sqlite", folder).removeprefix("sqlite:///"))


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Store]:
    opened = Store(f"sqlite:///{file}")
    opened.start()
    yield opened
    opened.close()


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def replace(file: Path) -> None:
    shutil.copy(file, beside(file, ".copy"))
    beside(file, ".copy").rename(file)


def put_back(file: Path) -> None:
    beside(file, ".away").rename(file)


def make(file: Path) -> None:
    """Make another file. Fails if there is one."""
    file.touch(exist_ok=False)


LOSSES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda file: file.unlink(),
    "moved away": lambda file: file.rename(beside(file, ".away")),
    "replaced": replace,
    "emptied": lambda file: file.write_bytes(b""),
    "made read-only": lambda file: file.chmod(0o444),
    "without its log": lambda file: beside(file, "-wal").unlink(),
    "without the index of its log": lambda file: beside(file, "-shm").unlink(),
    "without its lock": lambda file: beside(file, ".lock").unlink(),
    "in a folder that was moved": lambda file: file.parent.rename(file.parent.with_name("gone")),
    "in a folder that was deleted": lambda file: shutil.rmtree(file.parent),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_nothing_is_acknowledged_that_is_not_in_the_file_at_the_path(
    store: Store, file: Path, loss: str
) -> None:
    assert await store.write(put, "before") == "before"
    assert await store.read(names) == {"before"}
    LOSSES[loss](file)
    for write in (store.write, store.claim, store.write):
        with pytest.raises(Unavailable, match="put it back, or restart") as refused:
            await write(put, "after")
        assert str(file.parent) not in refused.value.detail
    assert await store.read(names) == {"before"}, "what was committed can still be read"


async def test_nothing_is_written_until_the_file_is_back(store: Store, file: Path) -> None:
    """Work that was refused must not appear later: its caller has sent it again."""
    LOSSES["moved away"](file)
    for name in ("first", "second", "third"):
        with pytest.raises(Unavailable):
            await store.write(put, name)
    put_back(file)
    assert await store.write(put, "back") == "back"
    assert await store.read(names) == {"back"}


async def test_a_commit_that_a_loss_overtakes_is_not_acknowledged(store: Store, file: Path) -> None:
    assert isinstance(store._database, Sqlite)
    sa.event.listen(store._database._engine, "commit", lambda _: file.unlink())
    with pytest.raises(Unavailable):
        await store.write(put, "a")


async def test_a_reader_makes_no_file_and_reads_no_other(store: Store, file: Path) -> None:
    LOSSES["deleted"](file)
    with pytest.raises(Unavailable):
        await store.read(names)
    make(file)
    with pytest.raises(Unavailable, match="another file"):
        await store.read(names)


async def test_a_relative_path_does_not_follow_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///jobs.db")
    store.start()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert await store.write(put, "a") == "a"
    assert await store.read(names) == {"a"}
    store.close()


async def test_a_damaged_database_is_unavailable(store: Store) -> None:
    """A caller gets 503, and not 500: the fault may be repaired while we run."""

    def damaged(_: Tx) -> None:
        raise sa.exc.DatabaseError("SELECT", {}, sqlite3.DatabaseError("malformed"))

    for ask in (store.read, store.write):
        with pytest.raises(Unavailable, match="malformed"):
            await ask(damaged)


@contextlib.contextmanager
def writing(file: Path, how: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Hold the write lock, as another program does."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute(how)
    yield
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
async def test_the_loop_turns_while_another_program_holds_the_lock(
    store: Store, file: Path, how: str
) -> None:
    loop = asyncio.get_running_loop()
    with writing(file, how):
        waiting = [asyncio.ensure_future(store.write(put, f"{n}")) for n in range(200)]
        longest, last, ends = 0.0, loop.time(), loop.time() + 0.5
        while last < ends:
            await asyncio.sleep(0.005)
            longest, last = max(longest, loop.time() - last), loop.time()
        assert await store.read(names) == set(), "readers are not affected"
        assert not any(one.done() for one in waiting)
    assert longest < 0.3
    assert len(await asyncio.gather(*waiting)) == 200
    assert len(await store.read(names)) == 200


async def test_the_wait_for_a_lock_is_bounded_for_all_that_wait(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOCK_TIMEOUT", 0.2)
    loop = asyncio.get_running_loop()
    with writing(file):
        began = loop.time()
        waiting = [store.write(put, f"{n}") for n in range(5 * writer.GROUP)]
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert loop.time() - began < 2
        assert {str(error) for error in errors} == {"the database is locked by another program"}
    assert await store.write(put, "after") == "after"
    assert await store.read(names) == {"after"}


async def test_a_store_that_closes_on_another_thread_commits_what_waits(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"sqlite:///{file}")
    await store.astart()
    with writing(file):
        waiting = [asyncio.ensure_future(store.write(put, f"{n}")) for n in range(200)]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.aclose())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="closed"):
            await store.write(put, "late")
    await closing
    assert len(await asyncio.gather(*waiting)) == 200
