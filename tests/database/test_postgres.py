"""PostgreSQL shared by replicas: disjoint claims, limits that hold, and outages that pass."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.database import queue
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.store import Batch, Store, Tx
from orchestrator.database.tables import account_state, job
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import DisciplinedClock, SystemClock
from orchestrator.foundation.errors import ConfigError, Unavailable
from orchestrator.foundation.states import JobState
from tests.harness import databases
from tests.harness.api_caller import until
from tests.harness.runtime import Harness, open_harness


@pytest.fixture
def address(tmp_path: Path) -> Any:
    made = databases.url("postgresql", tmp_path)
    yield made
    databases.drop(made)


@contextlib.asynccontextmanager
async def replicas(
    folder: Path, address: str, count: int, **values: Any
) -> AsyncIterator[list[Harness]]:
    """Several runtimes that share nothing but the database."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_harness(folder, database_url=address, **values))
            for _ in range(count)
        ]


def put(tx: Tx, name: str) -> str:
    tx.execute(sa.insert(account_state), [{"account": name}])
    return name


def names(tx: Tx) -> set[str]:
    return set(tx.scalars(sa.select(account_state.c.account)))


def disconnect_all(tx: Tx) -> None:
    """End every other session on this database, as a restart of the server would."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    tx.execute(sa.text(f"{others} WHERE datname = current_database() AND pid <> pg_backend_pid()"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_scheme_of_the_url_is_accepted(scheme: str) -> None:
    url = postgres.url_of(f"{scheme}://u:p%40ss@db.example.com:5433/jobs?sslmode=require")
    assert (url.drivername, url.password, url.port) == ("postgresql+psycopg", "p@ss", 5433)
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    "url", ["postgresql://u:hidden@[::1/jobs", "postgresql://u:hidden@127.0.0.1:1/jobs"]
)
def test_an_unusable_database_is_reported_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url") as refused, postgres.read_only(url):
        raise AssertionError("connected")
    assert "hidden" not in str(refused.value)


async def test_concurrent_claims_of_replicas_are_disjoint(tmp_path: Path, address: str) -> None:
    async with replicas(
        tmp_path, address, 3, accounts={"main": {"vendor": "kling", "api_key": "k"}}
    ) as members:
        for _ in range(60):
            await members[0].open()
        now = members[0].clock.now()
        rounds = [
            h.runtime.store.write(queue.take_jobs, JobState.QUEUED, {"main": 7}, now, 75.0, 7)
            for h in members
            for _ in "123"
        ]
        taken = [row["id"] for rows in await asyncio.gather(*rounds) for row in rows]
        assert len(taken) == len(set(taken))
        assert len(taken) == 60


async def test_the_limit_of_an_account_holds_when_all_replicas_submit_at_once(
    tmp_path: Path, address: str
) -> None:
    account = {"vendor": "kling", "api_key": "k", "max_in_flight": 5}
    async with replicas(tmp_path, address, 3, accounts={"main": account}) as members:
        for _ in range(40):
            await members[0].open()
        stages = [h.runtime.assemble(Submitter) for h in members]
        taken = await asyncio.gather(*(stage.take(64) for stage in stages for _ in "1234"))
        assert sum(len(rows) for rows in taken) == 5
        states = Counter(row["state"] for row in await members[1].rows(job))
        assert states == {JobState.SUBMITTING: 5, JobState.QUEUED: 35}


async def test_units_and_reads_survive_the_loss_of_every_connection(address: str) -> None:
    store, other = Store(address), Store(address)
    store.start()
    other.start()
    try:
        for n in range(5):
            await asyncio.gather(
                *(store.write(put, f"a{n}.{m}") for m in range(20)), store.read(names)
            )
            await other.write(disconnect_all)
            assert len(await store.read(names)) == (n + 1) * 20
        batch: Batch[str, str] = store.batched(lambda tx, items: [put(tx, item) for item in items])
        await other.write(disconnect_all)
        written = await asyncio.gather(*(batch(f"b{n}") for n in range(200)))
        assert sorted(written) == sorted(
            await store.read(names) - {f"a{n}.{m}" for n in range(5) for m in range(20)}
        )
    finally:
        store.close()
        other.close()


async def test_two_units_that_deadlock_both_commit(address: str) -> None:
    store = Store(address)
    store.start()
    try:
        await asyncio.gather(store.write(put, "a"), store.write(put, "b"))

        def crosswise(tx: Tx, first: str, second: str) -> None:
            for name in (first, second):
                mine = account_state.c.account == name
                tx.execute(
                    sa.update(account_state).where(mine).values(pushes=account_state.c.pushes + 1)
                )
                tx.execute(sa.text("SELECT pg_sleep(0.05)"))

        pairs = [("a", "b"), ("b", "a")] * 2
        await asyncio.gather(*(store.write(crosswise, *pair) for pair in pairs))
        counts = await store.read(lambda tx: list(tx.scalars(sa.select(account_state.c.pushes))))
        assert counts == [4, 4]
    finally:
        store.close()


async def test_items_gather_while_two_transactions_hold_others_of_their_batch(address: str) -> None:
    """Small groups cost more in total; other units pass them, and close commits all of them."""
    store = Store(address)
    store.start()
    go_on, sizes = threading.Event(), list[int]()

    def together(tx: Tx, items: list[str]) -> list[str]:
        sizes.append(len(items))
        go_on.wait(10)
        return [put(tx, item) for item in items]

    batch: Batch[str, str] = store.batched(together)
    try:
        writes = [asyncio.create_task(batch("first"))]
        await until(lambda: sizes == [1], "a transaction holds the first")
        writes.append(asyncio.create_task(batch("second")))
        await until(lambda: sizes == [1, 1], "another holds the second")
        writes += [asyncio.create_task(batch(f"later {number}")) for number in range(10)]
        assert await store.write(put, "by itself") == "by itself"
        go_on.set()
    finally:
        store.close()
    assert len(await asyncio.gather(*writes)) == 12
    assert len(sizes) <= 4, "waiting items were grouped"


async def test_an_idle_transaction_is_ended_by_the_server_and_run_again(address: str) -> None:
    """A frozen replica may not keep the row lock of an account."""
    store = Store(address + "&options=-c%20idle_in_transaction_session_timeout%3D200")
    store.start()
    tries: list[int] = []

    def freezes(tx: Tx) -> str:
        tries.append(len(tries))
        done = put(tx, "a")
        if len(tries) == 1:
            threading.Event().wait(0.6)
        return done

    try:
        assert await store.write(freezes) == "a"
        assert len(tries) == 2
        assert await store.read(names) == {"a"}
    finally:
        store.close()


async def test_a_transaction_may_be_idle_for_ten_seconds_by_default(address: str) -> None:
    store = Store(address)
    store.start()
    try:
        for ask in (store.write, store.read):
            found = await ask(
                lambda tx: tx.scalar(sa.text("SHOW idle_in_transaction_session_timeout"))
            )
            assert found == "10s"
    finally:
        store.close()


async def test_a_reader_cannot_write(address: str) -> None:
    store = Store(address)
    store.start()
    try:
        with pytest.raises(Unavailable, match="read-only"):
            await store.read(put, "a")
        assert await store.read(names) == set()
    finally:
        store.close()


async def test_an_outage_is_unavailable_and_recovers(address: str) -> None:
    store = Store(address)
    store.start()
    name = postgres.url_of(address).database
    try:
        with psycopg.connect(databases.server(), autocommit=True) as server:
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            with pytest.raises(Unavailable, match="not available"):
                await store.write(put, "a")
            with pytest.raises(Unavailable, match="not available"):
                await store.read(names)
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await store.write(put, "b") == "b"
        assert await store.read(names) == {"b"}
    finally:
        store.close()


async def test_a_wake_up_reaches_the_other_replica_and_a_lost_listener_reconnects(
    tmp_path: Path, address: str
) -> None:
    async with replicas(tmp_path, address, 2) as (first, second):
        stages: asyncio.Queue[str] = asyncio.Queue()
        await second.runtime.store.listen(stages.put_nowait)
        while stages.empty():
            # A wake-up before the listener is connected is lost, as any may be.
            first.runtime.store.wake("deliver")
            await asyncio.sleep(0.03)
        assert stages.get_nowait() == "deliver"
        await first.runtime.store.write(disconnect_all)
        while not stages.empty():
            stages.get_nowait()
        while stages.empty():
            with contextlib.suppress(Unavailable):
                first.runtime.store.wake("submit")
            await asyncio.sleep(0.03)
        assert stages.get_nowait() == "submit"


async def test_replicas_agree_on_the_time_although_their_clocks_differ(address: str) -> None:
    class Wrong(SystemClock):
        def now(self) -> Any:
            return super().now() - timedelta(seconds=300)

    store = Store(address)
    store.start()
    try:
        clock = DisciplinedClock(Wrong())
        clock.correct(await store.clock_offset(clock.own.now))
        assert abs((clock.now() - SystemClock().now()).total_seconds()) < 0.5
    finally:
        store.close()
