"""The number of a process: held by a session, fenced in time, handed over once after a grace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.database.membership import ALONE, UNBOUND, Membership
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres import notify
from orchestrator.database.postgres.session import FENCE, GRACE, Session, expel, has_lost
from orchestrator.database.postgres.sessions import check_unused
from orchestrator.database.store import Store
from orchestrator.database.tables import process
from orchestrator.foundation.clock import EPOCH, after
from orchestrator.foundation.errors import ConfigError
from tests.harness import databases
from tests.harness.api_caller import eventually
from tests.harness.runtime import ManualClock

pytestmark = pytest.mark.long


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    made = databases.url("postgresql", tmp_path)
    yield made
    databases.drop(made)


@pytest.fixture
async def two(address: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two processes on one database."""
    stores = Store(address), Store(address)
    for store in stores:
        await store.astart()
        await store.listen(lambda _: None)
    yield stores
    for store in stores:
        await store.aclose()


async def until(holds: Callable[[], bool]) -> None:
    async def held() -> bool:
        return holds()

    await eventually(held, "the number of the process changes")


def session_of(number: int | None) -> int:
    """Return the process of the server in whose session the lock of a number is held."""
    with psycopg.connect(databases.server()) as server:
        query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
        found = server.execute(query, [number]).fetchone()
        assert found is not None
        return int(found[0])


async def age(store: Store, seconds: float) -> None:
    """Let the locks that were found free have been free for longer."""
    earlier = sa.type_coerce(process.c.lost_at, sa.BigInteger) - int(seconds * 1000)
    await store.write(lambda tx: tx.execute(sa.update(process).values(lost_at=earlier)) and None)


def test_a_process_may_act_for_as_long_as_it_has_confirmed_its_number() -> None:
    clock = ManualClock()
    membership = Membership(clock=clock)
    assert (membership.number, membership.holds(UNBOUND)) == (UNBOUND, True)
    membership.confirm(7, after(clock.now(), FENCE))
    assert (membership.number, membership.holds(7), membership.holds(6)) == (7, True, False)
    # It stood still, and has not asked since.
    clock.advance(FENCE)
    assert (membership.number, membership.holds(7), membership.holds(None)) == (None, False, False)
    membership.confirm(7, after(clock.now(), FENCE))
    assert membership.holds(7)
    membership.fence()
    assert membership.number is None


def test_a_process_is_fenced_before_its_claims_are_handed_over() -> None:
    assert timedelta(seconds=FENCE) < timedelta(seconds=GRACE)


async def test_on_sqlite_there_is_one_process(tmp_path: Path) -> None:
    store = Store(databases.url("sqlite", tmp_path))
    await store.astart()
    await store.listen(lambda _: None)
    assert store.membership.number == ALONE
    assert not await store.read(store.has_lost)
    await store.aclose()


async def test_every_process_has_a_number_of_its_own(two: tuple[Store, Store]) -> None:
    one, other = two
    numbers = {store.membership.number for store in two}
    assert len(numbers) == 2
    assert not numbers & {None, UNBOUND}
    assert not await one.read(other.has_lost)
    assert await one.write(one.expel) == []


async def test_processes_in_two_schemas_of_a_database_do_not_meet(
    address: str, two: tuple[Store, Store]
) -> None:
    with psycopg.connect(address, autocommit=True) as server:
        server.execute("CREATE SCHEMA other")
    third = Store(address + "&options=-csearch_path%3Dother")
    await third.astart()
    await third.listen(lambda _: None)
    assert third.membership.number == 1
    await third.aclose()
    with psycopg.connect(address, autocommit=True) as server:
        server.execute("DROP SCHEMA other CASCADE")
    assert not await two[0].read(two[0].has_lost)


async def test_a_process_that_ended_is_handed_over_once_after_the_grace(
    two: tuple[Store, Store],
) -> None:
    one, other = two
    number = one.membership.number
    await one.aclose()
    assert one.membership.number is None
    assert await other.read(other.has_lost)
    assert await other.write(other.expel) == []
    await age(other, GRACE - 0.5)
    assert await other.write(other.expel) == []
    await age(other, 0.5)
    assert await other.write(other.expel) == [number]
    assert await other.write(other.expel) == []
    assert not await other.read(other.has_lost)


async def test_a_process_that_loses_its_session_keeps_its_number_within_the_grace(
    two: tuple[Store, Store],
) -> None:
    one, other = two
    number = one.membership.number
    os.kill(session_of(number), signal.SIGTERM)
    await until(lambda: one.membership.number is None)
    await other.write(other.expel)
    await until(lambda: one.membership.number is not None)
    assert one.membership.number == number
    await age(other, 60)
    assert await other.write(other.expel) == []


async def test_a_process_whose_claims_were_handed_over_gets_another_number(
    two: tuple[Store, Store],
) -> None:
    one, other = two
    number = one.membership.number
    gone = sa.delete(process).where(process.c.id == number)
    await other.write(lambda tx: tx.execute(gone) and None)
    os.kill(session_of(number), signal.SIGTERM)
    await until(lambda: one.membership.number not in (number, None))
    assert not await other.read(other.has_lost)


async def test_a_process_whose_session_is_silent_is_fenced_and_not_handed_over(
    two: tuple[Store, Store],
) -> None:
    """As in a partition: the server still sees its session."""
    one, other = two
    number = one.membership.number
    pid = session_of(number)
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: one.membership.number is None)
        assert not await other.read(other.has_lost)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: one.membership.number == number)


def in_autocommit(engine: sa.Engine) -> sa.Connection:
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def entered(engine: sa.Engine) -> tuple[Session, int]:
    """Return a session that has entered, and lost its connection since."""
    session, connection = Session(membership := Membership()), in_autocommit(engine)
    assert session.enter(connection)
    number = membership.number
    assert number is not None
    os.kill(session_of(number), signal.SIGTERM)
    with contextlib.suppress(sa.exc.DBAPIError):
        connection.exec_driver_sql("SELECT 1")
    connection.close()
    return session, number


@pytest.fixture
def engine(address: str) -> Iterator[sa.Engine]:
    made = postgres.engine_of(address, 4)
    yield made
    made.dispose()


def test_of_two_processes_with_one_number_each_keeps_its_own_session(engine: sa.Engine) -> None:
    """As after a failover to an asynchronous standby, which lacks the newest row."""
    one, number = entered(engine)
    other, membership = Session(theirs := Membership()), one._membership
    with engine.begin() as tx:
        tx.execute(sa.delete(process).where(process.c.id == number))
        sequence = sa.func.pg_get_serial_sequence("process", "id")
        tx.execute(sa.select(sa.func.setval(sequence, number, False)))
    with in_autocommit(engine) as a, in_autocommit(engine) as b:
        assert other.enter(a)
        assert theirs.number == number
        assert one.enter(b)
        assert membership.number not in (number, None)
        other.confirm(a)


def test_a_process_that_entered_again_while_it_was_marked_has_its_grace_the_next_time(
    engine: sa.Engine,
) -> None:
    """The UPDATE that marks waits for the row of another process, whose lock is free too."""
    with engine.begin() as tx:
        gone = tx.execute(sa.insert(process).values(started_at=EPOCH).returning(process.c.id))
        ended = gone.scalar_one()
    one, _ = entered(engine)
    expelled: list[list[int]] = []

    def expel_all() -> None:
        with engine.begin() as tx:
            expelled.append(expel(tx))

    marking = threading.Thread(target=expel_all)
    with in_autocommit(engine) as connection:
        with engine.begin() as tx:
            tx.execute(sa.select(process).where(process.c.id == ended).with_for_update())
            marking.start()
            wait_until_one_waits(connection)
            assert one.enter(connection)
        marking.join()
        expel_all()
        lost = sa.select(process.c.id).where(process.c.lost_at.is_not(None))
        with engine.begin() as tx:
            assert has_lost(tx)
            assert list(tx.scalars(lost)) == [ended]
    assert expelled == [[], []]
    with engine.begin() as tx:
        tx.execute(sa.delete(process))


def wait_until_one_waits(connection: sa.Connection) -> None:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    while not connection.exec_driver_sql(query).scalar():
        pass


async def test_a_listener_outlives_any_error(address: str) -> None:
    store, named = Store(address), list[str]()

    def failing(stage: str) -> None:
        named.append(stage)
        if len(named) == 1:
            raise ValueError(stage)

    await store.astart()
    await asyncio.to_thread(store._database.listen, failing)
    store.wake("submit")
    await until(lambda: store.membership.number is None)
    await until(lambda: store.membership.number is not None)
    assert named == ["submit"]
    await store.aclose()


def test_a_process_is_seen_whatever_the_name_of_its_application(
    address: str, engine: sa.Engine
) -> None:
    store = Store(f"{address}&application_name=mine")
    store.start()
    try:
        store._database.listen(lambda _: None)
        with engine.connect() as tx, pytest.raises(ConfigError, match="in use by orchestrator"):
            check_unused(tx)
    finally:
        store.close()


async def test_a_process_leaves_a_server_that_has_become_read_only(
    address: str, two: tuple[Store, Store]
) -> None:
    """Its session lives on there, and proves nothing about the server that is written to."""
    one, _ = two
    number = one.membership.number
    with psycopg.connect(databases.server(), autocommit=True) as server:
        server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        server.execute("SELECT pg_reload_conf()")
        try:
            await until(lambda: one.membership.number is None)
        finally:
            server.execute("ALTER SYSTEM RESET default_transaction_read_only")
            server.execute("SELECT pg_reload_conf()")
    await until(lambda: one.membership.number == number)


def test_a_session_that_could_not_begin_holds_no_lock(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back in the pool, its connection would show a fenced process as living."""
    monkeypatch.setattr(notify, "_CHANNEL", "no channel")
    session = Session(membership := Membership())
    with pytest.raises(sa.exc.ProgrammingError, match="LISTEN"), notify._listening(engine, session):
        pass
    assert membership.number is None
    with engine.begin() as tx:
        assert has_lost(tx)
        tx.execute(sa.delete(process))
