"""Pipelined transactions: few round trips, and an error of any statement fails its transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database import statements
from orchestrator.database.postgres.connection import Connection
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.errors import Unavailable
from tests.harness import databases

PUT = "INSERT INTO account_state (account, crowded, pushes, pushes_missed, polls, unsigned, stale,"
PUT += " mismatched, silent, degraded) VALUES ($1, 0, 0, 0, 0, 0, 0, 0, 0, false)"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    made = databases.url("postgresql", tmp_path)
    yield made
    databases.drop(made)


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    made = Store(address)
    await made.astart()
    yield made
    await made.aclose()


def put(tx: Tx, *accounts: str) -> None:
    for account in accounts:
        statements.send(tx, PUT, (account,))


def put_all(tx: Tx, accounts: list[str]) -> list[str]:
    put(tx, *accounts)
    return accounts


def names(tx: Tx) -> set[str]:
    return set(tx.scalars(sa.select(account_state.c.account)))


async def test_what_is_sent_costs_no_round_trip_of_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(put, "first")
    waits: list[Any] = []
    wait = Connection.wait

    def counted(self: Connection, gen: Any, *args: Any, **options: Any) -> Any:
        waits.append(gen.__name__)
        return wait(self, gen, *args, **options)

    monkeypatch.setattr(Connection, "wait", counted)
    await store.write(put, *(f"n{n}" for n in range(40)))
    assert waits.count("_sync_gen") == 1
    assert "_fetch_gen" not in waits
    assert len(await store.read(names)) == 41


async def test_an_error_that_comes_with_the_commit_fails_the_unit(store: Store) -> None:
    await store.write(put, "a")
    with pytest.raises(sa.exc.IntegrityError):
        await store.write(put, "b", "a", "c")
    assert await store.read(names) == {"a"}


async def test_an_item_that_fails_with_the_commit_takes_only_itself_down(store: Store) -> None:
    await store.write(put, "b")
    batch = store.batched(put_all)
    results = await asyncio.gather(*map(batch, "abcd"), return_exceptions=True)
    assert [type(one) for one in results] == [str, sa.exc.IntegrityError, str, str]
    assert await store.read(names) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("fail", ["by SQLAlchemy", "by the driver"])
async def test_a_failed_transaction_is_never_taken_for_committed(store: Store, fail: str) -> None:
    """The server answers its COMMIT with a rollback and without an error."""

    def swallows(tx: Tx) -> None:
        put(tx, "a")
        with contextlib.suppress(sa.exc.DBAPIError):
            if fail == "by SQLAlchemy":
                tx.execute(sa.text("SELECT 1 / 0"))
            statements.read(tx, "SELECT 1 / 0", ())

    with pytest.raises((sa.exc.DBAPIError, Unavailable), match=r"failed before its commit|aborted"):
        await store.write(swallows)
    assert await store.read(names) == set()
    await store.write(put, "b")
    assert await store.read(names) == {"b"}


async def test_more_than_the_socket_takes_at_once_is_sent(store: Store) -> None:
    size = 3 << 20

    def large(tx: Tx) -> int:
        statements.send(tx, "SELECT length($1::text)", ("x" * size,))
        put(tx, "a")
        (row,) = statements.read(tx, "SELECT length($1::text)", ("y" * size,))
        tx.execute(sa.select(sa.func.length(sa.literal("z" * size))))
        statements.send(tx, "SELECT length($1::text)", ("x" * size,))
        return int(row[0])

    assert await store.write(large) == size
    assert await store.read(names) == {"a"}


async def test_an_error_in_the_unit_itself_rolls_back_what_was_sent(store: Store) -> None:
    def fails(tx: Tx) -> None:
        put(tx, "a")
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        await store.write(fails)
    assert await store.read(names) == set()
