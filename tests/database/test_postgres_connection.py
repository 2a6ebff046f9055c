"""A database that stops responding: no error arrives, and yet no caller waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.database import statements
from orchestrator.database.postgres import connection, notify
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.store import Batch, Store, Tx
from orchestrator.foundation.errors import Unavailable
from tests.harness import databases

pytestmark = pytest.mark.long


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    made = databases.url("postgresql", tmp_path)
    yield made + "&connect_timeout=2"
    databases.drop(made)


@pytest.fixture
async def store(address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A store whose transactions may take a second."""
    monkeypatch.setattr(connection, "TRANSACTION_TIMEOUT", 1.0)
    made = Store(address)
    made.start()
    yield made
    made.close()


@contextlib.contextmanager
def silent(*pids: int) -> Iterator[None]:
    """Stop processes of the server: they keep their connections and send nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def asked(query: str) -> list[Any]:
    with psycopg.connect(databases.server(), autocommit=True) as server:
        return [row[0] for row in server.execute(query.encode())]


def backends(address: str) -> list[int]:
    name = postgres.url_of(address).database
    return asked(f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'")


def postmaster() -> int:
    return int(asked("SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)")[0])


def pid(tx: Tx) -> int:
    return int(tx.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


async def test_callers_of_a_silent_database_get_unavailable_and_it_recovers(
    store: Store, address: str
) -> None:
    await asyncio.gather(store.read(pid), *(store.write(pid) for _ in range(8)))
    with silent(*backends(address)):
        started = time.monotonic()
        for ask in (store.read, store.write):
            with pytest.raises(Unavailable, match="no answer within 1 second"):
                await ask(pid)
        assert time.monotonic() - started < 5
        # The other connections of the pool are discarded too, and new ones work.
        assert await store.write(pid) in backends(address)
        assert await store.read(pid) in backends(address)
    assert await store.write(pid)


async def test_after_a_connection_timeout_one_caller_tries_again_and_the_others_fail_at_once(
    store: Store, address: str
) -> None:
    with silent(*backends(address), postmaster()):
        with pytest.raises(Unavailable):
            await store.read(pid)
        with pytest.raises(Unavailable, match="timeout"):
            await store.read(pid)
        started = time.monotonic()
        asking = [asyncio.ensure_future(store.read(pid)) for _ in range(40)]
        done, rest = await asyncio.wait(asking, timeout=1)
        assert len(rest) == 1
        assert time.monotonic() - started < 1.5
        errors = {str(task.exception()) for task in done}
        assert errors == {"the database is not available: the server does not answer"}
        await asyncio.wait(rest)
    assert await store.read(pid)


def by_sqlalchemy(tx: Tx) -> None:
    tx.execute(sa.text("SELECT pg_sleep(0.2)"))


def by_driver(tx: Tx) -> None:
    statements.read(tx, "SELECT pg_sleep(0.2)", ())


@pytest.mark.parametrize("sleep", [by_sqlalchemy, by_driver])
async def test_the_timeout_is_of_the_whole_transaction(
    store: Store, sleep: Callable[[Tx], None]
) -> None:
    def trickles(tx: Tx) -> None:
        for _ in range(20):
            sleep(tx)

    for ask in (store.read, store.write):
        with pytest.raises(Unavailable, match="no answer"):
            await ask(trickles)
    assert await store.write(pid)


async def test_a_store_closes_although_its_database_is_silent(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TRANSACTION_TIMEOUT", 0.5)
    store = Store(address)
    store.start()
    await store.listen(lambda stage: None)
    await asyncio.gather(store.read(pid), *(store.write(pid) for _ in range(8)))
    with silent(*backends(address)):
        last = asyncio.ensure_future(store.write(pid))
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        with pytest.raises(Unavailable):
            await last


async def test_a_lock_wait_is_ended_by_the_server_once_for_the_whole_batch(address: str) -> None:
    store = Store(address + "&options=-c%20statement_timeout%3D300")
    store.start()
    calls: list[int] = []

    def locked(tx: Tx, items: list[int]) -> list[int]:
        calls.append(len(items))
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(1)"))
        return items

    batch: Batch[int, int] = store.batched(locked)
    try:
        with psycopg.connect(address) as holder:
            holder.execute("SELECT pg_advisory_lock(1)")
            errors = await asyncio.gather(*(batch(n) for n in range(20)), return_exceptions=True)
            assert {type(error) for error in errors} == {Unavailable}
            assert sum(calls) == 20
            assert asked(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ) == [0]
        assert await batch(1) == 1
    finally:
        store.close()


def test_the_server_limits_statements_below_our_timeout_but_not_those_of_migrations(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = sa.text("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
    limited = postgres.engine_of(address, 1)
    unlimited = postgres.engine_of(address, 1, timeouts=False)
    with limited.begin() as tx:
        assert 0 < tx.execute(limit).scalar_one() < connection.TRANSACTION_TIMEOUT * 1000
    monkeypatch.setattr(connection, "TRANSACTION_TIMEOUT", 0.1)
    with unlimited.begin() as tx:
        assert tx.execute(limit).scalar_one() == 0
        tx.execute(sa.text("SELECT pg_sleep(0.3)"))
    limited.dispose()
    unlimited.dispose()


async def test_a_listener_detects_a_dead_connection(
    store: Store, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_PROBE", 2)
    stages: asyncio.Queue[str] = asyncio.Queue()
    await store.listen(stages.put_nowait)

    async def woken() -> None:
        while stages.empty():
            store.wake("deliver")
            await asyncio.sleep(0.03)
        stages.get_nowait()

    await woken()
    listeners = asked(
        "SELECT pid FROM pg_stat_activity WHERE query IN ('LISTEN orchestrator', 'SELECT 1')"
    )
    with silent(*listeners):
        while not stages.empty():
            stages.get_nowait()
        async with asyncio.timeout(10):
            await woken()
