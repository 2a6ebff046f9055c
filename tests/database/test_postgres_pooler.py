"""PostgreSQL behind a connection pooler in transaction mode: nothing outlasts a transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.database import backend, queue, schema
from orchestrator.database.membership import UNBOUND
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.store import Batch, Store, Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.errors import ConfigError, Unavailable
from orchestrator.foundation.states import JobState
from tests.harness import databases
from tests.harness.runtime import open_harness
from tests.harness.transaction_pooler import Pooler, pooler


def put(tx: Tx, name: str) -> str:
    tx.execute(sa.insert(account_state), [{"account": name}])
    return name


def put_all(tx: Tx, names: list[str]) -> list[str]:
    return [put(tx, name) for name in names]


def names(tx: Tx) -> set[str]:
    return set(tx.scalars(sa.select(account_state.c.account)))


def setting(tx: Tx, name: str) -> object:
    return tx.exec_driver_sql(f"SHOW {name}").scalar()


@pytest.fixture(params=[False, True], ids=["refuses options", "ignores options"])
def pooled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Pooler, str]]:
    """A pooler in front of a new database, and its URL."""
    address = databases.url("postgresql", tmp_path)
    with pooler(address, takes_options=request.param) as made:
        yield made
    databases.drop(address)


def sessions(address: str, query: str) -> set[object]:
    """Run a query in each session of the server behind a pooler."""
    with contextlib.ExitStack() as opened:
        found = []
        for _ in range(3):
            link = opened.enter_context(psycopg.connect(address, prepare_threshold=None))
            found.append(link.execute(query.encode()).fetchone())
    return {row[0] for row in found if row is not None}


async def test_units_of_several_processes_share_few_sessions(pooled: tuple[Pooler, str]) -> None:
    between, address = pooled
    stores = [Store(address), Store(address)]
    for store in stores:
        store.start()
    try:
        batches: list[Batch[str, str]] = [store.batched(put_all) for store in stores]
        for turn in range(4):
            written = await asyncio.gather(
                *(store.write(put, f"{turn} {at} {n}")
                  for at, store in enumerate(stores) for n in range(8)),
                *(batch(f"{turn} {at} batch {n}")
                  for at, batch in enumerate(batches) for n in range(8)),
                *(store.read(names) for store in stores for _ in range(4)),
                return_exceptions=True,
            )  # fmt: skip
            assert not [error for error in written if isinstance(error, BaseException)]
        assert len(await stores[0].read(names)) == 4 * 2 * 16
    finally:
        for store in stores:
            store.close()
    assert max(map(len, between.used)) == 3, "transactions of a client ran in several sessions"
    assert sessions(address, "SELECT count(*) FROM pg_prepared_statements") == {0}


async def test_each_transaction_has_the_limits_that_a_session_would_have(
    pooled: tuple[Pooler, str],
) -> None:
    _, address = pooled
    store = Store(address)
    store.start()
    try:
        for ask in (store.write, store.read):
            for name, limit in (
                ("statement_timeout", "8s"),
                ("idle_in_transaction_session_timeout", "10s"),
            ):
                assert await ask(setting, name) == limit
        with pytest.raises(Unavailable, match="read-only"):
            await store.read(put, "a")
        assert await store.write(put, "a") == "a"
    finally:
        store.close()
    assert sessions(address, "SHOW statement_timeout") == {"0"}


async def test_wake_ups_of_other_processes_are_left_to_their_ticks(
    pooled: tuple[Pooler, str],
) -> None:
    _, address = pooled
    store = Store(address)
    store.start()
    try:
        await store.listen(lambda _: None)
        # Its claims come back by their leases alone.
        assert store.membership.number == UNBOUND
        store.wake("deliver")
        assert await store.write(put, "a") == "a"
    finally:
        store.close()
    assert sessions(address, "SELECT count(*) FROM pg_listening_channels()") == {0}


async def test_claims_are_disjoint_and_the_clock_is_the_servers(
    pooled: tuple[Pooler, str], tmp_path: Path
) -> None:
    _, address = pooled
    account = {"vendor": "kling", "api_key": "k"}
    async with open_harness(tmp_path, database_url=address, accounts={"main": account}) as h:
        for _ in range(30):
            await h.open()
        now, store = h.clock.now(), h.runtime.store
        claims = [
            store.write(queue.take_jobs, JobState.QUEUED, {"main": 7}, now, 75.0, 7)
            for _ in range(8)
        ]
        taken = [row["id"] for rows in await asyncio.gather(*claims) for row in rows]
        assert len(taken) == len(set(taken)) == 30
        assert isinstance(await store.clock_offset(h.clock.now), float)


def test_an_empty_database_is_migrated_and_checked(tmp_path: Path) -> None:
    address = databases.url("postgresql", tmp_path, empty=True)
    with pooler(address) as (_, through):
        assert backend.inspect(through).revision is None
        engine = postgres.engine_of(through, 1, timeouts=False)
        with engine.begin() as tx:
            assert schema.upgrade(tx)[-1] == schema.head()
            assert postgres.is_pooled(tx)
        engine.dispose()
        found = backend.inspect(through)
        assert (found.revision, found.pooled) == (schema.head(), True)
        assert sessions(through, "SELECT count(*) FROM pg_prepared_statements") == {0}
    assert not backend.inspect(address).pooled
    databases.drop(address)


def test_options_that_a_pooler_would_lose_are_refused(tmp_path: Path) -> None:
    address = databases.url("postgresql", tmp_path)
    with (
        pooler(address) as (_, through),
        pytest.raises(ConfigError, match="a connection pooler loses its options"),
    ):
        backend.inspect(through + "?options=-c%20search_path%3Djobs")
    databases.drop(address)
