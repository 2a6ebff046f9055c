"""PostgreSQL as replicas share it: claims that never meet, limits that hold, and trouble that passes."""

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
def test_every_spelling_of_the_url_is_the_same_database(scheme: str) -> None:
    url = postgres.url_of(f"{scheme}://u:p%40ss@db.example.com:5433/jobs?sslmode=require")
    assert (url.drivername, url.password, url.port) == ("postgresql+psycopg", "p@ss", 5433)
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    "url", ["postgresql://u:hidden@[::1/jobs", "postgresql://u:hidden@127.0.0.1:1/jobs"]
)
def test_a_database_that_cannot_be_had_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url") as refused, postgres.reached(url):
        raise AssertionError("reached")
    assert "hidden" not in str(refused.value)


async def test_replicas_that_claim_at_once_never_take_the_same(
    tmp_path: Path, address: str
) -> None:
    async with replicas(
        tmp_path, address, 3, accounts={"main": {"vendor": "kling", "api_key": "k"}}
    ) as houses:
        for _ in range(60):
            await houses[0].open()
        now = houses[0].clock.now()
        rounds = [
            h.runtime.store.write(queue.take_jobs, JobState.QUEUED, {"main": 7}, now, 75.0, 7)
            for h in houses
            for _ in "123"
        ]
        taken = [row["id"] for rows in await asyncio.gather(*rounds) for row in rows]
        assert len(taken) == len(set(taken))
        assert len(taken) == 60


async def test_an_accounts_limit_holds_when_all_replicas_submit_at_once(
    tmp_path: Path, address: str
) -> None:
    account = {"vendor": "kling", "api_key": "k", "max_in_flight": 5}
    async with replicas(tmp_path, address, 3, accounts={"main": account}) as houses:
        for _ in range(40):
            await houses[0].open()
        stages = [h.runtime.assemble(Submitter) for h in houses]
        taken = await asyncio.gather(*(stage.take(64) for stage in stages for _ in "1234"))
        assert sum(len(rows) for rows in taken) == 5
        states = Counter(row["state"] for row in await houses[1].rows(job))
        assert states == {JobState.SUBMITTING: 5, JobState.QUEUED: 35}


async def test_units_and_reads_outlive_the_loss_of_every_connection(address: str) -> None:
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
        told = await asyncio.gather(*(batch(f"b{n}") for n in range(200)))
        assert sorted(told) == sorted(
            await store.read(names) - {f"a{n}.{m}" for n in range(5) for m in range(20)}
        )
    finally:
        store.close()
        other.close()


async def test_two_units_that_lock_crosswise_both_get_there(address: str) -> None:
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
    """Small groups cost more than they bring; what else waits goes past them, and closing forgets none."""
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
        await until(lambda: sizes == [1], "a transaction holds it")
        writes.append(asyncio.create_task(batch("second")))
        await until(lambda: sizes == [1, 1], "another one holds that")
        writes += [asyncio.create_task(batch(f"later {number}")) for number in range(10)]
        assert await store.write(put, "by itself") == "by itself"
        go_on.set()
    finally:
        store.close()
    assert len(await asyncio.gather(*writes)) == 12
    assert len(sizes) <= 4, "what waited was put together"


async def test_a_transaction_that_stands_still_is_ended_by_the_server_and_run_again(
    address: str,
) -> None:
    """A frozen replica may not keep an account's row from the others."""
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


async def test_a_transaction_may_stand_still_for_ten_seconds_unless_the_url_says_otherwise(
    address: str,
) -> None:
    store = Store(address)
    store.start()
    try:
        for ask in (store.write, store.read):
            said = await ask(
                lambda tx: tx.scalar(sa.text("SHOW idle_in_transaction_session_timeout"))
            )
            assert said == "10s"
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


async def test_a_database_that_is_away_is_our_trouble_and_passes(address: str) -> None:
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


async def test_a_wake_reaches_the_other_replica_and_a_lost_listener_comes_back(
    tmp_path: Path, address: str
) -> None:
    async with replicas(tmp_path, address, 2) as (one, two):
        heard: asyncio.Queue[str] = asyncio.Queue()
        two.runtime.store.listen(heard.put_nowait)
        while heard.empty():
            # The listener is up at some moment soon; a wake before that is lost, as any may be.
            one.runtime.store.wake("deliver")
            await asyncio.sleep(0.03)
        assert heard.get_nowait() == "deliver"
        await one.runtime.store.write(disconnect_all)
        while not heard.empty():
            heard.get_nowait()
        while heard.empty():
            with contextlib.suppress(Unavailable):
                one.runtime.store.wake("submit")
            await asyncio.sleep(0.03)
        assert heard.get_nowait() == "submit"


async def test_replicas_agree_on_the_time_although_their_machines_do_not(address: str) -> None:
    class Wrong(SystemClock):
        def now(self) -> Any:
            return super().now() - timedelta(seconds=300)

    store = Store(address)
    store.start()
    try:
        clock = DisciplinedClock(Wrong())
        clock.correct(await store.ahead(clock.own.now))
        assert abs((clock.now() - SystemClock().now()).total_seconds()) < 0.5
    finally:
        store.close()
