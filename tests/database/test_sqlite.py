"""SQLite as a production store: durable settings, one process, read-only readers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.database.sqlite.engine import Lock, engines, path_of
from orchestrator.database.store import Store, Tx
from orchestrator.foundation.errors import ConfigError, Unavailable
from tests.harness import databases

#: Starts a store for each line of its input, and prints the result.
OTHER_PROCESS = """
import sys
from orchestrator.foundation.errors import ConfigError
from orchestrator.database.store import Store
for line in sys.stdin:
    store = Store(sys.argv[1])
    try:
        store.start()
        store.close()
        print("opened", flush=True)
    except ConfigError as error:
        print(error, flush=True)
"""


def pragma(tx: Tx, name: str) -> object:
    return tx.exec_driver_sql(f"PRAGMA {name}").scalar()


@contextlib.contextmanager
def other_process(url: str) -> Iterator[Callable[[], str]]:
    """A function that opens and closes a store in another process, and returns the result."""
    words = [sys.executable, "-c", OTHER_PROCESS, url]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        given, printed = process.stdin, process.stdout

        def opened() -> str:
            given.write("\n")
            return printed.readline()

        yield opened
    assert process.returncode == 0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return databases.url("sqlite", tmp_path)


@pytest.mark.usefixtures("synced")
async def test_a_commit_is_durable_before_it_is_acknowledged(url: str) -> None:
    store = Store(url)
    store.start()
    assert await store.write(pragma, "journal_mode") == "wal"
    assert await store.write(pragma, "synchronous") == 2, (
        "FULL: the log reaches the disk before COMMIT returns"
    )
    store.close()


async def test_only_the_writer_ever_checkpoints(url: str) -> None:
    store = Store(url)
    store.start()
    assert await store.read(pragma, "wal_autocheckpoint") == 0
    assert await store.write(pragma, "wal_autocheckpoint") != 0
    store.close()


async def test_a_reader_cannot_write(url: str) -> None:
    store = Store(url)
    store.start()
    with pytest.raises(Unavailable, match="readonly"):
        await store.read(
            lambda tx: tx.exec_driver_sql("INSERT INTO account_state (account) VALUES ('x')")
        )
    store.close()


def test_a_write_holds_the_database_from_its_first_statement(url: str) -> None:
    """A deferred transaction would fail half-way, when it first wrote."""
    writer, _ = engines(url)
    other, _ = engines(url)
    with writer.begin(), other.connect() as second:
        second.connection.driver_connection.execute("PRAGMA busy_timeout=0")  # type: ignore[union-attr]
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            second.exec_driver_sql("SELECT 1")
    writer.dispose()
    other.dispose()


def test_a_second_store_on_the_same_file_is_refused_with_the_reason(url: str) -> None:
    first, second = Store(url), Store(url)
    first.start()
    with pytest.raises(ConfigError, match="in use by another orchestrator process"):
        second.start()
    first.close()
    second.start()
    second.close()


def test_a_second_process_is_refused_until_the_first_ends(url: str) -> None:
    store = Store(url)
    store.start()
    with other_process(url) as opened_elsewhere:
        assert "SQLite serves one process" in opened_elsewhere()
        store.close()
        assert opened_elsewhere() == "opened\n"


def test_a_lock_file_of_a_dead_process_does_not_block(url: str, tmp_path: Path) -> None:
    (tmp_path / "test.db.lock").write_text("")
    lock = Lock(url)
    lock.take()
    assert lock.held
    lock.release()
    lock.release()
    assert not lock.held


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such-folder.*check that the folder exists"):
        Lock(f"sqlite:///{tmp_path / 'no-such-folder' / 'jobs.db'}").take()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://x@localhost/y"])
def test_a_database_in_memory_or_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite:///orchestrator\.db"):
        path_of(url)


def test_the_lock_file_is_readable_by_its_owner_only(url: str, tmp_path: Path) -> None:
    lock = Lock(url)
    lock.take()
    assert os.stat(tmp_path / "test.db.lock").st_mode & 0o077 == 0
    lock.release()


def test_a_file_that_is_not_a_database_is_refused_and_unchanged(url: str, tmp_path: Path) -> None:
    file = tmp_path / "test.db"
    file.write_bytes(b"my diary, page one " * 100)
    store = Store(url)
    with pytest.raises(ConfigError, match="not a database"):
        store.start()
    assert file.read_bytes().startswith(b"my diary")
    lock = Lock(url)
    lock.take()
    lock.release()
