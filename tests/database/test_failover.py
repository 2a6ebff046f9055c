"""A server is replaced by another: units of work go on there, and none that committed is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.errors import ConnectionTimeout

from orchestrator.database import backend, schema
from orchestrator.database.postgres import connection, durability
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres.connection import Connection, ConnectionFactory
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.errors import ConfigError, Unavailable
from orchestrator.jobs.capacity import ensure_accounts
from tests.harness import clusters, databases
from tests.harness.api_caller import eventually

Parameters = dict[str, Any]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    made = databases.url("postgresql", tmp_path)
    yield made
    databases.drop(made)


def put(tx: Tx, name: str) -> str:
    tx.execute(sa.insert(account_state), [{"account": name}])
    return name


def put_once(tx: Tx, name: str) -> str:
    # A commit that was given up may still come, between any two statements of this.
    ensure_accounts(tx, [name])
    return name


def names(tx: Tx) -> set[str]:
    return set(tx.scalars(sa.select(account_state.c.account)))


def parameters(url: str, *, read_only: bool = False) -> Parameters:
    """Return the parameters with which an engine connects."""
    found: list[Parameters] = []

    def connect(_self: object, *given: Any) -> None:
        found.append(given[-1])
        raise psycopg.OperationalError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConnectionFactory, "__call__", connect)
        with pytest.raises(sa.exc.OperationalError):
            postgres.engine_of(url, 1, read_only=read_only).connect()
    return found[0]


@pytest.mark.parametrize(
    ("url", "hosts", "ports", "shown"),
    [
        ("u:p%40,x@a:1,b:2/db?sslmode=require", "a,b", "1,2", "u:***@a:1,b:2/db"),
        ("u:p,x@a,b:2/db", "a,b", "5432,2", "u:***@a:5432,b:2/db"),
        ("[::1]:1,a/db", "::1,a", "1,5432", "[::1]:1,a:5432/db"),
        ("u@a,b,c", "a,b,c", "5432,5432,5432", "u@a:5432,b:5432,c:5432/"),
        ("u@/db?host=a:1&host=b:2", "a,b", "1,2", "u@a:1,b:2/db"),
        ("/db?host=a,b&port=1,2", "a,b", "1,2", "a:1,b:2/db"),
    ],
)
def test_a_url_may_name_several_hosts(url: str, hosts: str, ports: str, shown: str) -> None:
    url = f"postgresql://{url}"
    assert schema.named(postgres.url_of(url)) == f"postgresql://{shown}"
    for read_only, session in ((False, "read-write"), (True, "primary")):
        named = parameters(url, read_only=read_only)
        assert (named["host"], named["port"]) == (hosts, ports)
        assert named["target_session_attrs"] == session
        assert named["connect_timeout"] <= 3
        # The rendered URL is the same one, as for a scratch schema.
        again = postgres.url_of(url).render_as_string(hide_password=False)
        assert parameters(again, read_only=read_only)["port"] == ports


def test_the_url_itself_decides_which_server_it_wants() -> None:
    several, one = "postgresql://a,b/db", "postgresql://a/db"
    assert "target_session_attrs" not in parameters(one)
    assert parameters(f"{several}?target_session_attrs=any")["target_session_attrs"] == "any"
    reading = parameters(f"{one}?target_session_attrs=read-write", read_only=True)
    assert reading["target_session_attrs"] == "primary"
    # A machine that is gone is noticed within seconds, on busy and on idle connections.
    assert reading["tcp_user_timeout"] <= 5000
    probes = reading["keepalives_interval"] * reading["keepalives_count"]
    assert reading["keepalives_idle"] + probes <= 11
    assert parameters(f"{one}?tcp_user_timeout=9000")["tcp_user_timeout"] == "9000"


@pytest.mark.parametrize("hosts", ["a,", ",a", "a:x,b", "[::1,b", "a,b:1:2"])
def test_hosts_that_cannot_be_read_are_refused_without_the_password(hosts: str) -> None:
    with pytest.raises(ConfigError, match="host1:5432,host2:5432") as refused:
        postgres.url_of(f"postgresql://u:hidden@{hosts}/db")
    assert "hidden" not in str(refused.value)


def test_the_host_that_answered_is_tried_first_and_a_silent_one_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []
    fates: dict[str, type[Exception]] = {"a": ConnectionTimeout, "b": psycopg.OperationalError}

    def connect(*_: object, host: str, **_more: object) -> Any:
        tried.append(host)
        if host in fates:
            raise fates[host](f"{host} failed")
        return Connection.__new__(Connection)

    monkeypatch.setattr(connection, "_is_pooled", lambda _: False)
    monkeypatch.setattr(Connection, "connect", connect)
    factory, dialect = ConnectionFactory(limited=True), sa.make_url("postgresql://").get_dialect()()

    def connects() -> str:
        tried.clear()
        factory(dialect, None, (), {"host": "a,b", "port": "1,2"})
        return "".join(tried)

    # Neither takes it: the breaker of a silent server applies, and the next try begins elsewhere.
    with pytest.raises(ConnectionTimeout, match="a:1: a failed; b:2: b failed"):
        connects()
    with pytest.raises(ConnectionTimeout):
        connects()
    assert tried == ["b", "a"]
    del fates["b"]
    assert [connects() for _ in "12"] == ["b", "b"]
    # Back to the first one, at the cost of one refusal.
    fates = {"b": psycopg.OperationalError}
    assert [connects() for _ in "12"] == ["ba", "a"]


async def test_a_server_that_has_become_read_only_is_left_at_once_with_the_whole_pool(
    address: str,
) -> None:
    """As after a switchover: the sessions that are open can only read, new ones can write."""
    store = Store(address)
    store.start()

    def demote(tx: Tx) -> None:
        tx.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        tx.exec_driver_sql("SELECT pg_sleep(0.1)")

    try:
        await asyncio.gather(*(store.write(demote) for _ in range(postgres.WRITERS)))
        done = await asyncio.gather(*(store.write(put, f"a{n}") for n in range(20)))
        assert await store.read(names) == {*done}
    finally:
        store.close()


async def test_units_wait_for_a_server_within_their_retries_and_once_in_vain(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, tried, refused = Store(address), list[int](), 2
    store.start()
    connect = Connection.connect

    def starting(*args: Any, **named: Any) -> Any:
        tried.append(len(tried))
        if len(tried) <= refused:
            raise psycopg.OperationalError("FATAL:  the database system is starting up")
        return connect(*args, **named)

    monkeypatch.setattr(postgres, "_RETRIES", (0.001, 0.001, 0.001))
    monkeypatch.setattr(Connection, "connect", starting)
    try:
        end_sessions(address)
        assert await store.write(put, "a") == "a"
        end_sessions(address)
        refused = 100
        # The first waits. While the server is down, each other one tries once.
        for count in (3, 4, 5):
            with pytest.raises(Unavailable, match="is starting up"):
                await store.write(put, "b")
            assert len(tried) == 3 + count
        refused = 0
        assert await store.write(put, "b") == "b"
    finally:
        store.close()


def end_sessions(address: str) -> None:
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(databases.server(), autocommit=True) as server:
        server.execute(end, (postgres.url_of(address).database,))


async def test_a_commit_whose_answer_is_lost_is_not_done_twice(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, commits = Store(address), itertools.count(1)
    store.start()
    commit: Callable[[Connection], None] = Connection.commit

    def lost(self: Connection) -> None:
        commit(self)
        if next(commits) % 3 == 1:
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(Connection, "commit", lost)
    runs: list[str] = []

    def counted(tx: Tx, name: str) -> str:
        runs.append(name)
        return put_once(tx, name)

    try:
        done = [await store.write(counted, f"a{n}") for n in range(6)]
        assert len(runs) > len(done), "no unit ran again"
        assert await store.read(names) == {*done}
    finally:
        monkeypatch.undo()
        store.close()


def found_at(url: str) -> list[str]:
    """Return the risks that are found at a server, without its schema being checked."""
    engine = postgres.engine_of(url, 1, read_only=True)
    with engine.connect() as tx:
        found = durability.risks(tx, postgres.url_of(url))
    engine.dispose()
    return [f"{risk.found}{' (fatal)' if risk.fatal else ''}" for risk in found]


def test_settings_that_lose_commits_are_found(address: str) -> None:
    assert [*backend.inspect(address).risks] == [durability.Risk(*FSYNC)]
    assert found_at(address + "&options=-csynchronous_commit%3Doff") == [
        FSYNC[0],
        "synchronous_commit is off: a crash loses the newest commits",
    ]


#: The server of tests has it off.
FSYNC = ("fsync is off: a crash of its machine destroys data", "turn it on")


@pytest.mark.proof
def test_a_failover_that_would_lose_commits_is_found_beforehand() -> None:
    with clusters.pair(synchronous=False) as (first, second):
        of_all = clusters.url_of_all(first, second)
        lossy = "replication to 1 standby is asynchronous: a failover loses commits"
        one = "database_url names one host, and its server has 1 standby"
        assert found_at(first.url) == [FSYNC[0], lossy, one]
        assert found_at(first.url + "?target_session_attrs=read-write") == [FSYNC[0], lossy]
        assert found_at(of_all) == [FSYNC[0], lossy]
        assert found_at(second.url) == ["this server is a standby: nothing can be written (fatal)"]
        clusters.make_synchronous(first)
        assert found_at(of_all) == [FSYNC[0]]
        assert found_at(of_all + "?options=-csynchronous_commit%3Dlocal") == [FSYNC[0], lossy]


@pytest.mark.proof
async def test_a_commit_that_no_standby_has_is_not_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A statement timeout would end the wait for the standby, and report success: it may not."""
    with clusters.pair() as (first, second):
        store = Store(first.url + "?options=-c%20statement_timeout%3D200")
        await store.astart()
        try:
            assert await store.write(put_once, "a") == "a"
            monkeypatch.setattr(connection, "TRANSACTION_TIMEOUT", 1.0)
            await asyncio.to_thread(second.stop)
            with pytest.raises(Unavailable, match="no answer within 1 second"):
                await store.write(put_once, "b")
            assert await store.read(names) == {"a"}
            await asyncio.to_thread(second.start)
            assert await eventually(partial(store.write, put_once, "b"), "a standby is back")
        finally:
            await store.aclose()


@pytest.mark.proof
async def test_after_a_promotion_the_service_goes_on_at_the_new_primary() -> None:
    """Two real servers, one killed: the other has all that was acknowledged, and wakes."""
    with clusters.pair() as (first, second):
        # The standby is named first: it takes no unit of work while it is one.
        store = Store(clusters.url_of_all(second, first))
        await store.astart()
        stages: asyncio.Queue[str] = asyncio.Queue()
        await store.listen(stages.put_nowait)
        done: list[str] = []

        async def write(number: int) -> bool:
            with contextlib.suppress(Unavailable):
                done.append(await store.write(put_once, f"a{number}"))
                return True
            return False

        try:
            assert all(await asyncio.gather(*map(write, range(50))))
            async with asyncio.TaskGroup() as tasks:
                under_way = [tasks.create_task(write(n)) for n in range(50, 500)]
                await asyncio.to_thread(first.kill)
            assert not all(task.result() for task in under_way)
            await asyncio.to_thread(second.promote)
            async with asyncio.timeout(10):
                await eventually(partial(write, 1000), "the new primary takes units")
                assert set(done) <= await store.read(names)
                while "deliver" not in {stages.get_nowait() for _ in range(stages.qsize())}:
                    store.wake("deliver")
                    await asyncio.sleep(0.05)
        finally:
            await store.aclose()
