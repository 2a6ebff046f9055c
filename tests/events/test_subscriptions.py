"""The subscriptions in memory: those that the transaction sees, read once for each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, subscriber, subscriber_version
from orchestrator.events import subscribers, subscriptions
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.events.filters import Filter
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.events.subscriptions import Subscriptions, current
from orchestrator.foundation.states import EventType, Source, SubscriberState
from tests.harness.engine import subscribe
from tests.harness.runtime import Harness

BODY = {"type": "job.failed", "data": {"tenant": "t1", "tags": ["a", "b"]}}


class Rolled(Exception):
    """Ends a transaction without a commit."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many subscribers each read of them found."""
    found: list[int] = []

    class Noted(Subscriptions):
        def __init__(self, rows: Any) -> None:
            rows = [*rows]
            found.append(len(rows))
            super().__init__(rows)

    monkeypatch.setattr(subscriptions, "Subscriptions", Noted)
    return found


def seen(tx: Tx) -> dict[str, str]:
    return {one.id: one.state for one in current(tx).recipients("job.failed", BODY)}


async def test_they_are_read_once_for_each_change_that_matters(
    h: Harness, reads: list[int]
) -> None:
    """Also one that another process makes, with an older version or by hand."""
    write, read = h.runtime.store.write, h.runtime.store.read
    to = await subscribe(h)
    mine = subscriber.c.id == to["id"]
    assert await read(seen) == await read(seen) == {to["id"]: "active"}
    assert reads == [1]
    for change in ({"resting_until": h.clock.now()}, {"failures": 3}, {"description": "x"}):
        await h.run(sa.update(subscriber).where(mine).values(**change))
    url = "https://a.example/hook"
    await write(callback_lane, h.runtime.ids, h.runtime.keys, url, h.clock.now())
    await read(seen)
    assert reads == [1], "health and lanes of callback URLs change nothing"
    await write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    assert await read(seen) == {to["id"]: "paused"}
    await h.run(sa.update(subscriber).where(mine).values(filter={"data": {"tenant": "t2"}}))
    assert await read(seen) == {}
    await h.run(sa.update(subscriber).where(mine).values(filter=None, types=["account.*"]))
    assert await read(seen) == {}
    await h.run(sa.delete(subscriber).where(mine))
    assert await read(seen) == {}
    assert reads == [1, 1, 1, 1, 0]


async def test_a_change_that_is_rolled_back_is_forgotten(h: Harness) -> None:
    to = await subscribe(h)

    def undone(tx: Tx) -> None:
        tx.execute(sa.update(subscriber).values(state="paused"))
        assert seen(tx) == {to["id"]: "paused"}, "a transaction sees its own changes"
        raise Rolled

    with pytest.raises(Rolled):
        await h.runtime.store.write(undone)
    assert await h.runtime.store.read(seen) == {to["id"]: "active"}


async def test_without_a_version_they_are_read_each_time(h: Harness, reads: list[int]) -> None:
    to = await subscribe(h)
    await h.run(sa.delete(subscriber_version))
    for _ in range(2):
        assert await h.runtime.store.read(seen) == {to["id"]: "active"}
    assert reads == [1, 1]


@pytest.fixture
def statements() -> Iterator[list[str]]:
    found: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("given", [None, {"data": {"id": "x"}}])
async def test_an_event_costs_three_statements_with_a_filter_or_without(
    h: Harness, statements: list[str], given: Any
) -> None:
    """The token, the events, the deliveries."""
    await subscribe(h, filter=given)
    new = NewEvent(EventType.JOB_STUCK, Source.CLOCK, {"id": "x"})

    def counted(tx: Tx) -> int:
        publish(tx, h.runtime.ids, [new], h.clock.now())
        before = len(statements)
        publish(tx, h.runtime.ids, [new], h.clock.now())
        return len(statements) - before

    assert await h.runtime.store.write(counted) == 3
    assert len(await h.rows(delivery)) == 2


def rows(make: Callable[[int], str | None], count: int) -> list[tuple[str, str, str, Any]]:
    return [(f"sub_{n}", '["job.*"]', "active", make(n)) for n in range(count)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"data":{"tenant":"t%d"}}', {1}),
        ('{"type":"job.failed","data":{"tenant":{"$in":["t%d","t1"]}}}', set(range(9))),
        ('{"data":{"tags":["a","b"],"tenant":{"$eq":"t%d"}}}', {1}),
        ('{"$or":[{"data":{"tags":"b"}},{"data":{"tenant":"t%d"}}]}', set(range(9))),
        ('{"$or":[{"data":{"tenant":"t%d"}},{"sequence":{"$exist":true}}]}', {1}),
        ('{"data":{"tenant":{"$not":"t%d"}}}', set(range(9)) - {1}),
    ],
)
def test_a_filter_is_found_by_its_keys_once(text: str, wanted: set[int]) -> None:
    found = [one.id for one in Subscriptions(rows(lambda n: text % n, 9)).recipients(
        "job.failed", BODY)]  # fmt: skip
    assert len(found) == len(set(found))
    assert set(found) == {f"sub_{n}" for n in wanted}


def test_of_ten_thousand_different_filters_those_with_the_key_are_tested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text, tested = '{"type":"job.failed","data":{"tenant":"t%s"}}', list[object]()
    many = Subscriptions(rows(lambda n: text.replace("%s", str(n)), 10_000))

    def matches(filter_: Filter, body: Any) -> bool:
        tested.append(filter_)
        return True

    monkeypatch.setattr(Filter, "matches", matches)
    assert [one.id for one in many.recipients("job.failed", BODY)] == ["sub_1"]
    assert len(tested) == 1
