"""The results of attempts, for deliveries and their subscribers, in one unit of work."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
import sqlalchemy as sa

from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.tables import attempt, delivery, event, subscriber
from orchestrator.database.tables.rows import DeliveryRow, SubscriberRow
from orchestrator.engine import deliver_results
from orchestrator.engine.deliver_health import (
    DISABLE_AFTER,
    FAILING_AFTER,
    FAILURES,
    Health,
    LaneChange,
    update_health,
)
from orchestrator.engine.deliver_results import Attempted, BatchCompleter, record
from orchestrator.events import subscribers
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import DeliveryState, SubscriberState
from tests.harness.engine import POLICY, at_vendor, event_types, subscribe
from tests.harness.runtime import Harness

D = DeliveryState


async def due_deliveries(h: Harness, to: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """Create `count` due deliveries to a subscriber; return their rows."""
    for _ in range(count):
        await at_vendor(h, task=h.runtime.ids("job"))
    return await h.rows(
        delivery, delivery.c.subscriber_id == to["id"], delivery.c.due_at.is_not(None)
    )


async def recorded(
    h: Harness, attempts: Sequence[Attempted], at: datetime | None = None
) -> list[LaneChange | None]:
    return await h.runtime.store.write(
        record, h.runtime.ids, random.Random(1), attempts, at or h.clock.now()
    )


def attempted(
    row: dict[str, Any], to: dict[str, Any], result: ResponseClass, **values: Any
) -> Attempted:
    claim = cast(QueuedDelivery, row), cast(SubscriberRow, to)
    return Attempted(*claim, row["created_at"], 12, result, POLICY, **values)


async def subscriber_row(h: Harness, to: dict[str, Any]) -> SubscriberRow:
    (row,) = await h.rows(subscriber, subscriber.c.id == to["id"])
    return cast(SubscriberRow, row)


async def delivery_row(h: Harness, row: dict[str, Any]) -> DeliveryRow:
    (now,) = await h.rows(delivery, delivery.c.id == row["id"])
    return cast(DeliveryRow, now)


# -- batching


async def test_a_single_attempt_does_not_wait_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_results, "MAX_WAIT", 60.0)
    async with asyncio.timeout(5):
        await BatchCompleter().wait(1)


async def test_all_attempts_in_progress_are_flushed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliver_results, "MAX_WAIT", 60.0)
    completer, flushed = BatchCompleter(), list[int]()

    async def end(number: int) -> None:
        await completer.wait(4)
        flushed.append(number)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(end(number))
        await asyncio.sleep(0)
        assert not flushed
        await end(3)
        assert flushed == [3]
    assert sorted(flushed) == [0, 1, 2, 3]


async def test_an_attempt_waits_for_its_batch_at_most_max_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliver_results, "MAX_WAIT", 0.01)
    completer = BatchCompleter()
    async with asyncio.timeout(5):
        await asyncio.gather(*(completer.wait(99) for _ in range(3)))
        await completer.wait(99)


# -- deliveries


async def test_results_of_one_batch_are_recorded_each_to_its_delivery(h: Harness) -> None:
    to = await subscribe(h)
    rows = await due_deliveries(h, to, 4)
    results = [
        ResponseClass.DELIVERED,
        ResponseClass.LATER,
        ResponseClass.SHORTLY,
        ResponseClass.NEVER,
    ]
    assert (
        await recorded(
            h, [attempted(row, to, result) for row, result in zip(rows, results, strict=True)]
        )
        == [None] * 4
    )
    states = [(await delivery_row(h, row))["state"] for row in rows]
    assert states == [D.DELIVERED, D.PENDING, D.PENDING, D.DEAD]
    assert len(await h.rows(attempt)) == 4


@pytest.mark.parametrize("state", [SubscriberState.PAUSED, SubscriberState.DISABLED])
async def test_a_delivery_that_fails_after_its_subscriber_stopped_is_held(
    h: Harness, state: SubscriberState
) -> None:
    to = await subscribe(h)
    (row,) = await due_deliveries(h, to)
    await h.runtime.store.write(subscribers.hold, to["id"], state, None)
    await recorded(h, [attempted(row, to, ResponseClass.LATER)])
    held = await delivery_row(h, row)
    assert (held["state"], held["due_at"]) == (D.HELD, None)
    await h.runtime.store.write(subscribers.resume, to["id"], h.clock.now())
    resumed = await delivery_row(h, row)
    assert (resumed["state"], resumed["tries"]) == (D.PENDING, 1)


async def test_a_delivery_that_succeeds_after_its_subscriber_paused_is_delivered(
    h: Harness,
) -> None:
    to = await subscribe(h)
    (row,) = await due_deliveries(h, to)
    await h.runtime.store.write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    await recorded(h, [attempted(row, to, ResponseClass.DELIVERED, status=200)])
    assert (await delivery_row(h, row))["state"] == D.DELIVERED


@pytest.mark.parametrize(
    ("result", "state"), [(ResponseClass.LATER, D.DEAD), (ResponseClass.DELIVERED, D.DELIVERED)]
)
async def test_deliveries_to_a_subscriber_deleted_during_the_attempt_are_never_due(
    h: Harness, result: ResponseClass, state: DeliveryState
) -> None:
    to = await subscribe(h)
    row, other = await due_deliveries(h, to, 2)
    await h.runtime.store.write(subscribers.remove, to["id"], h.clock.now())
    assert (
        (await delivery_row(h, other))["state"],
        (await delivery_row(h, other))["last_error"],
    ) == (D.DEAD, "subscriber_deleted")
    assert await recorded(h, [attempted(row, to, result)]) == [None]
    assert ((await delivery_row(h, row))["state"], (await delivery_row(h, row))["due_at"]) == (
        state,
        None,
    )


async def test_a_delivery_retried_by_an_operator_after_its_schedule_gets_one_attempt(
    h: Harness,
) -> None:
    to = await subscribe(h)
    (row,) = await due_deliveries(h, to)
    h.clock.advance(sum(POLICY.schedule))
    await recorded(
        h, [attempted(row | {"tries": len(POLICY.schedule) + 3}, to, ResponseClass.LATER)]
    )
    assert (await delivery_row(h, row))["state"] == D.DEAD


async def test_an_attempt_recorded_twice_is_stored_once(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await due_deliveries(h, to)
    await recorded(h, [attempted(row, to, ResponseClass.LATER, status=500)])
    await recorded(h, [attempted(row, to, ResponseClass.LATER, status=503)])
    (stored,) = await h.rows(attempt)
    assert (stored["status"], (await delivery_row(h, row))["tries"]) == (500, 1)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that are executed during the test."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(" ".join(statement.split()))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


async def test_a_batch_locks_deliveries_then_addresses_then_subscribers_each_in_order(
    h: Harness, database: str, statements: list[str]
) -> None:
    """The order of the operator's commands: two orders would deadlock on PostgreSQL."""
    good, bad = await subscribe(h), await subscribe(h)
    await at_vendor(h)
    await h.run(subscriber.update().values(failing_since=h.clock.now()))
    (first,), (second,) = [
        await h.rows(delivery, delivery.c.subscriber_id == to["id"]) for to in (good, bad)
    ]
    host = await h.runtime.store.write(
        callback_lane, h.runtime.ids, h.runtime.keys, "https://a.example", h.clock.now()
    )
    lane = {"id": host}
    rows = [first | {"id": f"dlv_{n}"} for n in range(2)]
    statements.clear()
    await recorded(h, [
        attempted(rows[1], lane, ResponseClass.DELIVERED, address="b"),
        attempted(rows[0], lane, ResponseClass.LATER, address="a"),
        attempted(second, bad, ResponseClass.LATER),
        attempted(first, good, ResponseClass.DELIVERED),
    ])  # fmt: skip
    writes = [found[1] for one in statements if (found := re.search(r"(?:UPDATE|INTO) (\w+)", one))]
    order = ["delivery", "attempt", "callback_address", "subscriber"]
    assert list(dict.fromkeys(writes)) == order
    assert writes == sorted(writes, key=order.index)
    locks = [one.split(" FROM ")[1].split()[0] for one in statements if "FOR UPDATE" in one]
    postgres = database.startswith("postgresql")
    assert locks == (["delivery", "callback_address", "subscriber"] if postgres else [])
    assert all("ORDER BY" in one for one in statements if "FOR UPDATE" in one)
    assert (await subscriber_row(h, good))["failing_since"] is None
    assert [row["key"] for row in await h.rows("callback_address")] == ["a"]


# -- health


async def test_five_days_of_failures_alone_disable_the_subscriber_and_are_announced(
    h: Harness,
) -> None:
    to, other = await subscribe(h), await subscribe(h, "subscriber.*")
    start = h.clock.now()
    (row,) = await due_deliveries(h, to)
    for hours in range(0, 120, 8):
        at = start + timedelta(hours=hours)
        assert await recorded(
            h, [attempted(row | {"lease": 0}, to, ResponseClass.LATER, status=500)], at
        ) != [LaneChange.DISABLED]
    assert (await subscriber_row(h, to))["failing_since"] == start
    assert await recorded(
        h, [attempted(row, to, ResponseClass.LATER, status=500)], start + DISABLE_AFTER
    ) == [LaneChange.DISABLED]
    disabled = await subscriber_row(h, to)
    assert (disabled["state"], disabled["reason"]) == (
        SubscriberState.DISABLED,
        "every attempt since 2026-11-20 has failed",
    )
    assert (await event_types(h))[-2:] == ["subscriber.failing", "subscriber.disabled"]
    assert len(await h.rows(delivery, delivery.c.subscriber_id == other["id"])) == 2
    assert (
        await h.rows(delivery, delivery.c.subscriber_id == to["id"], delivery.c.due_at.is_not(None))
        == []
    )


@pytest.mark.parametrize(
    ("batches", "step"),
    [
        ([1] * FAILURES, timedelta(seconds=1)),
        ([4, 4, 4], timedelta(seconds=1)),
        ([1, 1], FAILING_AFTER),
    ],
    ids=["in a row", "in batches", "for minutes"],
)
async def test_a_failing_subscriber_is_announced_to_the_others_once_and_so_is_its_recovery(
    h: Harness, batches: list[int], step: timedelta
) -> None:
    to, other = await subscribe(h, "job.*"), await subscribe(h, "subscriber.*")
    start, changes = h.clock.now(), list[LaneChange | None]()
    rows = await due_deliveries(h, to, sum(batches) + 3)
    for number, size in enumerate([*batches, 1, 1]):
        failed = [attempted(rows.pop(), to, ResponseClass.LATER) for _ in range(size)]
        changes += (await recorded(h, failed, start + number * step))[:1]
    announced = [None] * (len(batches) - 1) + [LaneChange.FAILING, None, None]
    assert changes == announced
    accepted = attempted(rows.pop(), to, ResponseClass.DELIVERED)
    assert await recorded(h, [accepted]) == [LaneChange.RECOVERED]
    kinds = ["subscriber.failing", "subscriber.recovered"]
    found = [row for row in await h.rows(event) if row["type"] in kinds]
    assert [row["type"] for row in found] == kinds
    bodies = [json.loads(row["body"])["data"] for row in found]
    assert [bool(body["failing_since"]) for body in bodies] == [True, False]
    owed = await h.rows(delivery, delivery.c.event_id.in_([row["id"] for row in found]))
    assert {row["subscriber_id"] for row in owed} == {other["id"]}
    fresh = await subscriber_row(h, to)
    assert (fresh["failing_since"], fresh["failures"]) == (None, None)


@pytest.mark.parametrize("now", [FAILURES, FAILURES - 1])
async def test_a_recovery_is_judged_by_the_row_as_it_is_when_it_is_locked(
    h: Harness, now: int
) -> None:
    """Another writer has counted, or has announced the recovery, since the row was read."""
    to = await subscribe(h, "job.*")
    row = {**await subscriber_row(h, to), "failures": 2 * FAILURES - 1 - now}
    health = cast(Health, {name: row[name] for name in Health.__annotations__})
    await h.run(sa.update(subscriber).values(failures=now, failing_since=h.clock.now()))
    (due,) = await due_deliveries(h, to, 1)
    accepted = [attempted(due, to, ResponseClass.DELIVERED)]
    change = await h.runtime.store.write(
        update_health, h.runtime.ids, health, accepted, h.clock.now()
    )
    assert change is (LaneChange.RECOVERED if now == FAILURES else None)
    assert (await subscriber_row(h, to))["failures"] is None


async def test_single_failures_between_successes_are_never_announced(h: Harness) -> None:
    to = await subscribe(h, "job.*")
    rows = await due_deliveries(h, to, 2 * FAILURES)
    for row in rows:
        for result in (ResponseClass.LATER, ResponseClass.DELIVERED):
            assert await recorded(h, [attempted(row, to, result)]) == [None]


async def test_a_recovery_after_a_resumption_ends_the_announced_failure(h: Harness) -> None:
    to = await subscribe(h, "job.*")
    rows = await due_deliveries(h, to, FAILURES + 1)
    failed = [attempted(row, to, ResponseClass.LATER) for row in rows[1:]]
    # One event, and one line in the log.
    assert Counter(await recorded(h, failed)) == {LaneChange.FAILING: 1, None: FAILURES - 1}
    await h.runtime.store.write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    await h.runtime.store.write(subscribers.resume, to["id"], h.clock.now())
    assert await recorded(h, [attempted(rows[0], to, ResponseClass.DELIVERED)]) == [
        LaneChange.RECOVERED
    ]


async def test_a_success_between_failures_restarts_the_five_days(h: Harness) -> None:
    to = await subscribe(h)
    start = h.clock.now()
    first, second, third = await due_deliveries(h, to, 3)
    await recorded(h, [attempted(first, to, ResponseClass.LATER)], start)
    await recorded(h, [attempted(second, to, ResponseClass.DELIVERED)], after(start, 86400))
    assert (await subscriber_row(h, to))["failing_since"] is None
    await recorded(h, [attempted(third, to, ResponseClass.LATER)], start + DISABLE_AFTER)
    assert (await subscriber_row(h, to))["state"] == SubscriberState.ACTIVE
    assert (await subscriber_row(h, to))["failing_since"] == start + DISABLE_AFTER


async def test_a_success_in_a_batch_with_failures_keeps_the_subscriber_active(h: Harness) -> None:
    to = await subscribe(h)
    rows = await due_deliveries(h, to, 2)
    await h.run(subscriber.update().values(failing_since=h.clock.now() - DISABLE_AFTER))
    await recorded(
        h,
        [
            attempted(rows[0], to, ResponseClass.LATER),
            attempted(rows[1], to, ResponseClass.DELIVERED),
        ],
    )
    assert (await subscriber_row(h, to))["state"] == SubscriberState.ACTIVE


async def test_enabling_again_clears_reason_failures_and_rest(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await due_deliveries(h, to)
    await recorded(h, [attempted(row, to, ResponseClass.GONE, status=410, rest=3600.0)])
    assert (await subscriber_row(h, to))["resting_until"] is not None
    await h.runtime.store.write(subscribers.resume, to["id"], h.clock.now())
    fresh = await subscriber_row(h, to)
    assert (fresh["state"], fresh["reason"], fresh["failing_since"], fresh["resting_until"]) == (
        SubscriberState.ACTIVE, None, None, None,
    )  # fmt: skip


async def test_a_disabled_subscriber_is_announced_once(h: Harness) -> None:
    to = await subscribe(h)
    rows = await due_deliveries(h, to, 2)
    assert await recorded(h, [attempted(rows[0], to, ResponseClass.GONE, status=410)]) == [
        LaneChange.DISABLED
    ]
    assert await recorded(h, [attempted(rows[1], to, ResponseClass.GONE, status=410)]) == [None]
    assert len(await h.rows(event, event.c.type == "subscriber.disabled")) == 1


async def test_the_reason_is_at_most_200_characters(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await due_deliveries(h, to)
    await recorded(h, [attempted(row, to, ResponseClass.GONE, status=410, response="x" * 5000)])
    assert 0 < len((await subscriber_row(h, to))["reason"] or "") <= 200
