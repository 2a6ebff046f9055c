"""Units of work in one transaction: called in order, batches together, resolved once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.sqlite.engine import engines
from orchestrator.database.unit_of_work import (
    Tx,
    Unit,
    UnitResult,
    as_unavailable,
    execute,
    resolve,
)
from orchestrator.foundation.errors import Unavailable


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Tx]:
    both = engines(f"sqlite:///{tmp_path / 'units.db'}")
    with both[0].begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (name TEXT PRIMARY KEY)")
        yield connection
    for engine in both:
        engine.dispose()


def keep(tx: Tx, *names: str) -> tuple[str, ...]:
    for name in names:
        tx.exec_driver_sql("INSERT INTO kept VALUES (?)", (name,))
    return names


def keep_all(tx: Tx, names: list[str]) -> list[str]:
    """Keep names, none of which may be `bad`."""
    keep(tx, *names)
    if "bad" in names:
        raise LookupError("a bad item")
    return [name.upper() for name in names]


def kept(tx: Tx) -> list[str]:
    return [row[0] for row in tx.exec_driver_sql("SELECT name FROM kept ORDER BY rowid")]


def unit(run: Callable[..., Any], *args: Any) -> Unit:
    return Unit(run, args, asyncio.get_running_loop().create_future())


def item(run: Callable[..., Any], name: str) -> Unit:
    return Unit(run, (name,), asyncio.get_running_loop().create_future(), item=True)


def values(results: list[UnitResult]) -> dict[Unit, Any]:
    return {result.unit: result.error or result.value for result in results}


async def test_items_of_a_batch_are_one_call_in_the_place_of_the_first(tx: Tx) -> None:
    first, a, second, b = (
        unit(keep, "first"),
        item(keep_all, "a"),
        unit(keep, "second"),
        item(keep_all, "b"),
    )
    assert values(execute(tx, [first, a, second, b])) == {
        first: ("first",),
        a: "A",
        second: ("second",),
        b: "B",
    }
    assert kept(tx) == ["first", "a", "b", "second"]


async def test_items_of_different_batches_stay_apart(tx: Tx) -> None:
    calls: list[tuple[str, ...]] = []

    def first(_: Tx, names: list[str]) -> list[str]:
        calls.append(("first", *names))
        return names

    def second(_: Tx, names: list[str]) -> list[str]:
        calls.append(("second", *names))
        return names

    execute(
        tx,
        [
            item(first, "a"),
            item(second, "b"),
            item(first, "c"),
            item(second, "d"),
            unit(first, ["alone"]),
        ],
    )
    assert calls == [("first", "a", "c"), ("second", "b", "d"), ("first", "alone")]


@pytest.mark.parametrize("neighbour", [True, False])
async def test_a_batch_that_fails_leaves_nothing_and_is_run_again_item_by_item(
    tx: Tx, neighbour: bool
) -> None:
    a, bad, b = (item(keep_all, name) for name in ("a", "bad", "b"))
    others = [unit(keep, "other")] if neighbour else []
    found = values(execute(tx, [a, bad, b, *others]))
    assert (found[a], found[b]) == ("A", "B")
    assert isinstance(found[bad], LookupError)
    assert kept(tx) == ["a", "b"] + ["other"] * neighbour


@pytest.mark.parametrize("is_item", [False, True])
async def test_a_unit_that_is_alone_fails_with_its_transaction(tx: Tx, is_item: bool) -> None:
    """There is nothing else to commit, so it needs no savepoint."""
    alone = item(keep_all, "bad") if is_item else unit(keep_all, ["a", "bad"])
    with pytest.raises(LookupError):
        execute(tx, [alone])


async def test_a_batch_that_returns_too_few_values_leaves_nothing(tx: Tx) -> None:
    def short(tx: Tx, names: list[str]) -> list[str]:
        return keep_all(tx, names)[1:]

    assert [type(result.error) for result in execute(tx, [item(short, "a"), item(short, "b")])] == [
        ValueError,
        ValueError,
    ]
    assert kept(tx) == []


async def test_no_units_are_no_calls(tx: Tx) -> None:
    assert execute(tx, []) == []


async def test_a_future_is_resolved_once_and_a_cancelled_one_not_at_all() -> None:
    good, bad, gone, done = (unit(keep) for _ in range(4))
    gone.future.cancel()
    done.future.set_result("before")
    resolve(
        [
            UnitResult(good, 1),
            UnitResult(bad, error=LookupError("on purpose")),
            UnitResult(gone, 2),
            UnitResult(done, 3),
        ]
    )
    assert await good.future == 1
    assert await done.future == "before"
    assert gone.future.cancelled()
    with pytest.raises(LookupError, match="on purpose"):
        await bad.future


@pytest.mark.parametrize("error", [sa.exc.OperationalError, sa.exc.InterfaceError])
def test_an_outage_is_unavailable(error: type[sa.exc.DBAPIError]) -> None:
    found = as_unavailable(error("SELECT 1", None, Exception("gone")))
    assert isinstance(found, Unavailable)
    assert "gone" in str(found)
    assert "SELECT" not in str(found)


@pytest.mark.parametrize(
    "error", [LookupError("x"), sa.exc.IntegrityError("INSERT", None, Exception("twice"))]
)
def test_an_error_of_a_unit_is_unchanged(error: Exception) -> None:
    assert as_unavailable(error) is error
