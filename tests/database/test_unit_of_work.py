"""Units of work in one transaction: called in order, batches as one, and told of their outcome once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.sqlite.engine import engines
from orchestrator.database.unit_of_work import Tx, Unit, UnitResult, ours, perform, settle
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


def values(outcomes: list[UnitResult]) -> dict[Unit, Any]:
    return {one.unit: one.error or one.value for one in outcomes}


async def test_items_of_a_batch_are_one_call_where_the_first_of_them_stood(tx: Tx) -> None:
    first, a, second, b = (
        unit(keep, "first"),
        item(keep_all, "a"),
        unit(keep, "second"),
        item(keep_all, "b"),
    )
    assert values(perform(tx, [first, a, second, b])) == {
        first: ("first",),
        a: "A",
        second: ("second",),
        b: "B",
    }
    assert kept(tx) == ["first", "a", "b", "second"]


async def test_items_of_different_batches_stay_apart(tx: Tx) -> None:
    calls: list[tuple[str, ...]] = []

    def one(_: Tx, names: list[str]) -> list[str]:
        calls.append(("one", *names))
        return names

    def other(_: Tx, names: list[str]) -> list[str]:
        calls.append(("other", *names))
        return names

    perform(
        tx,
        [item(one, "a"), item(other, "b"), item(one, "c"), item(other, "d"), unit(one, ["alone"])],
    )
    assert calls == [("one", "a", "c"), ("other", "b", "d"), ("one", "alone")]


@pytest.mark.parametrize("neighbour", [True, False])
async def test_a_batch_that_fails_leaves_nothing_and_is_tried_again_item_by_item(
    tx: Tx, neighbour: bool
) -> None:
    a, bad, b = (item(keep_all, name) for name in ("a", "bad", "b"))
    beside = [unit(keep, "beside")] if neighbour else []
    told = values(perform(tx, [a, bad, b, *beside]))
    assert (told[a], told[b]) == ("A", "B")
    assert isinstance(told[bad], LookupError)
    assert kept(tx) == ["a", "b"] + ["beside"] * neighbour


async def test_an_item_that_is_alone_leaves_nothing_when_it_fails(tx: Tx) -> None:
    (outcome,) = perform(tx, [item(keep_all, "bad")])
    assert isinstance(outcome.error, LookupError)
    assert kept(tx) == []


async def test_a_unit_that_is_alone_takes_the_transaction_down_with_it(tx: Tx) -> None:
    """There is nothing else to commit, so a savepoint would be for nothing."""
    with pytest.raises(LookupError):
        perform(tx, [unit(keep_all, ["a", "bad"])])


async def test_an_answer_of_the_wrong_length_leaves_nothing(tx: Tx) -> None:
    def short(tx: Tx, names: list[str]) -> list[str]:
        return keep_all(tx, names)[1:]

    assert [type(one.error) for one in perform(tx, [item(short, "a"), item(short, "b")])] == [
        ValueError,
        ValueError,
    ]
    assert kept(tx) == []


async def test_no_units_are_no_calls(tx: Tx) -> None:
    assert perform(tx, []) == []


async def test_everybody_is_told_once_and_who_gave_up_not_at_all() -> None:
    good, bad, gone, told = (unit(keep) for _ in range(4))
    gone.future.cancel()
    told.future.set_result("before")
    settle(
        [
            UnitResult(good, 1),
            UnitResult(bad, error=LookupError("on purpose")),
            UnitResult(gone, 2),
            UnitResult(told, 3),
        ]
    )
    assert await good.future == 1
    assert await told.future == "before"
    assert gone.future.cancelled()
    with pytest.raises(LookupError, match="on purpose"):
        await bad.future


@pytest.mark.parametrize("error", [sa.exc.OperationalError, sa.exc.InterfaceError])
def test_trouble_of_the_database_is_unavailable(error: type[sa.exc.DBAPIError]) -> None:
    said = ours(error("SELECT 1", None, Exception("gone")))
    assert isinstance(said, Unavailable)
    assert "gone" in str(said)
    assert "SELECT" not in str(said)


@pytest.mark.parametrize(
    "error", [LookupError("x"), sa.exc.IntegrityError("INSERT", None, Exception("twice"))]
)
def test_what_a_unit_did_wrong_stays_what_it_is(error: Exception) -> None:
    assert ours(error) is error
