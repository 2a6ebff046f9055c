"""How attempts end for a delivery and for its subscriber, in one unit of work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.tables import attempt, delivery, event, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine import deliver_results
from orchestrator.engine.deliver_results import DISABLE_AFTER, Attempted, BatchCompleter, record
from orchestrator.events import subscribers
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.clock import STANDARD_SCHEDULE, after
from orchestrator.foundation.states import DeliveryState, SubscriberState
from tests.harness.engine import at_vendor, event_types, subscribe
from tests.harness.runtime import Harness

D = DeliveryState


async def owed(h: Harness, to: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    """Return that many deliveries owed to a subscriber, as a claim would."""
    for _ in range(count):
        await at_vendor(h, task=h.runtime.ids("job"))
    return await h.rows(
        delivery, delivery.c.subscriber_id == to["id"], delivery.c.due_at.is_not(None)
    )


async def ended(
    h: Harness, attempted: Sequence[Attempted], at: datetime | None = None
) -> list[bool]:
    return await h.runtime.store.write(
        record, h.runtime.ids, random.Random(1), attempted, at or h.clock.now()
    )


def one(
    row: dict[str, Any], to: dict[str, Any], verdict: ResponseClass, **values: Any
) -> Attempted:
    return Attempted(
        cast(QueuedDelivery, row), cast(SubscriberRow, to), row["created_at"], 12, verdict, **values
    )


async def person(h: Harness, to: dict[str, Any]) -> dict[str, Any]:
    (row,) = await h.rows(subscriber, subscriber.c.id == to["id"])
    return row


async def dlv(h: Harness, row: dict[str, Any]) -> dict[str, Any]:
    (now,) = await h.rows(delivery, delivery.c.id == row["id"])
    return now


# -- together


async def test_one_alone_does_not_wait_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_results, "MAX_WAIT", 60.0)
    async with asyncio.timeout(5):
        await BatchCompleter().wait(1)


async def test_all_that_are_under_way_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_results, "MAX_WAIT", 60.0)
    company, gone = BatchCompleter(), list[int]()

    async def end(number: int) -> None:
        await company.wait(4)
        gone.append(number)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(end(number))
        await asyncio.sleep(0)
        assert not gone
        await end(3)
        assert gone == [3]
    assert sorted(gone) == [0, 1, 2, 3]


async def test_nobody_waits_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver_results, "MAX_WAIT", 0.01)
    company = BatchCompleter()
    async with asyncio.timeout(5):
        await asyncio.gather(*(company.wait(99) for _ in range(3)))
        await company.wait(99)


# -- one by one


async def test_many_ends_at_once_are_told_apart(h: Harness) -> None:
    to = await subscribe(h)
    rows = await owed(h, to, 4)
    verdicts = [
        ResponseClass.DELIVERED,
        ResponseClass.LATER,
        ResponseClass.SHORTLY,
        ResponseClass.NEVER,
    ]
    assert (
        await ended(h, [one(row, to, verdict) for row, verdict in zip(rows, verdicts, strict=True)])
        == [False] * 4
    )
    states = [(await dlv(h, row))["state"] for row in rows]
    assert states == [D.DELIVERED, D.PENDING, D.PENDING, D.DEAD]
    assert len(await h.rows(attempt)) == 4


@pytest.mark.parametrize("state", [SubscriberState.PAUSED, SubscriberState.DISABLED])
async def test_an_attempt_that_fails_while_its_subscriber_is_stopped_is_held(
    h: Harness, state: SubscriberState
) -> None:
    to = await subscribe(h)
    (row,) = await owed(h, to)
    await h.runtime.store.write(subscribers.hold, to["id"], state, None)
    await ended(h, [one(row, to, ResponseClass.LATER)])
    assert ((await dlv(h, row))["state"], (await dlv(h, row))["due_at"]) == (D.HELD, None)
    await h.runtime.store.write(subscribers.resume, to["id"], h.clock.now())
    assert ((await dlv(h, row))["state"], (await dlv(h, row))["tries"]) == (D.PENDING, 1)


async def test_an_attempt_that_succeeds_meanwhile_is_delivered(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await owed(h, to)
    await h.runtime.store.write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    await ended(h, [one(row, to, ResponseClass.DELIVERED, status=200)])
    assert (await dlv(h, row))["state"] == D.DELIVERED


@pytest.mark.parametrize(
    ("verdict", "state"), [(ResponseClass.LATER, D.DEAD), (ResponseClass.DELIVERED, D.DELIVERED)]
)
async def test_a_subscriber_that_was_deleted_meanwhile_is_owed_nothing(
    h: Harness, verdict: ResponseClass, state: DeliveryState
) -> None:
    to = await subscribe(h)
    row, other = await owed(h, to, 2)
    await h.runtime.store.write(subscribers.remove, to["id"], h.clock.now())
    assert ((await dlv(h, other))["state"], (await dlv(h, other))["last_error"]) == (
        D.DEAD,
        "subscriber_deleted",
    )
    assert await ended(h, [one(row, to, verdict)]) == [False]
    assert ((await dlv(h, row))["state"], (await dlv(h, row))["due_at"]) == (state, None)


async def test_one_that_the_operator_repeats_after_its_schedule_gets_one_attempt(
    h: Harness,
) -> None:
    to = await subscribe(h)
    (row,) = await owed(h, to)
    await ended(h, [one(row | {"tries": len(STANDARD_SCHEDULE) + 3}, to, ResponseClass.LATER)])
    assert (await dlv(h, row))["state"] == D.DEAD


async def test_proof_written_twice_is_kept_once(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await owed(h, to)
    await ended(h, [one(row, to, ResponseClass.LATER, status=500)])
    await ended(h, [one(row, to, ResponseClass.LATER, status=503)])
    (proof,) = await h.rows(attempt)
    assert (proof["status"], (await dlv(h, row))["tries"]) == (500, 1)


# -- health


async def test_nothing_but_failure_for_five_days_switches_off_and_says_so(h: Harness) -> None:
    to, other = await subscribe(h), await subscribe(h, "subscriber.*")
    start = h.clock.now()
    (row,) = await owed(h, to)
    for hours in range(0, 120, 8):
        at = start + timedelta(hours=hours)
        assert await ended(
            h, [one(row | {"lease": 0}, to, ResponseClass.LATER, status=500)], at
        ) == [False]
    assert (await person(h, to))["failing_since"] == start
    assert await ended(
        h, [one(row, to, ResponseClass.LATER, status=500)], start + DISABLE_AFTER
    ) == [True]
    off = await person(h, to)
    assert (off["state"], off["reason"]) == (
        SubscriberState.DISABLED,
        "every attempt since 2026-11-20 has failed",
    )
    assert (await event_types(h))[-1] == "subscriber.disabled"
    assert len(await h.rows(delivery, delivery.c.subscriber_id == other["id"])) == 1
    assert (
        await h.rows(delivery, delivery.c.subscriber_id == to["id"], delivery.c.due_at.is_not(None))
        == []
    )


async def test_one_success_in_between_starts_the_days_again(h: Harness) -> None:
    to = await subscribe(h)
    start = h.clock.now()
    first, second, third = await owed(h, to, 3)
    await ended(h, [one(first, to, ResponseClass.LATER)], start)
    await ended(h, [one(second, to, ResponseClass.DELIVERED)], after(start, 86400))
    assert (await person(h, to))["failing_since"] is None
    await ended(h, [one(third, to, ResponseClass.LATER)], start + DISABLE_AFTER)
    assert (await person(h, to))["state"] == SubscriberState.ACTIVE
    assert (await person(h, to))["failing_since"] == start + DISABLE_AFTER


async def test_a_success_beside_failures_counts(h: Harness) -> None:
    to = await subscribe(h)
    rows = await owed(h, to, 2)
    await h.run(subscriber.update().values(failing_since=h.clock.now() - DISABLE_AFTER))
    await ended(
        h, [one(rows[0], to, ResponseClass.LATER), one(rows[1], to, ResponseClass.DELIVERED)]
    )
    assert (await person(h, to))["state"] == SubscriberState.ACTIVE


async def test_switching_on_again_forgives_what_was(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await owed(h, to)
    await ended(h, [one(row, to, ResponseClass.GONE, status=410, rest=3600.0)])
    assert (await person(h, to))["resting_until"] is not None
    await h.runtime.store.write(subscribers.resume, to["id"], h.clock.now())
    fresh = await person(h, to)
    assert (fresh["state"], fresh["reason"], fresh["failing_since"], fresh["resting_until"]) == (
        SubscriberState.ACTIVE, None, None, None,
    )  # fmt: skip


async def test_one_that_is_off_already_is_no_news(h: Harness) -> None:
    to = await subscribe(h)
    rows = await owed(h, to, 2)
    assert await ended(h, [one(rows[0], to, ResponseClass.GONE, status=410)]) == [True]
    assert await ended(h, [one(rows[1], to, ResponseClass.GONE, status=410)]) == [False]
    assert len(await h.rows(event, event.c.type == "subscriber.disabled")) == 1


async def test_the_reason_is_a_line_and_not_a_page(h: Harness) -> None:
    to = await subscribe(h)
    (row,) = await owed(h, to)
    await ended(h, [one(row, to, ResponseClass.GONE, status=410, response="x" * 5000)])
    assert len((await person(h, to))["reason"]) <= 200
