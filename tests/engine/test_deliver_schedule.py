"""Turns: every lane that has something due is served, however many there are, and none is remembered for nothing."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
import sqlalchemy as sa

from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine import deliver_schedule
from orchestrator.engine.deliver import LEASE
from orchestrator.engine.deliver_schedule import ClaimedDelivery, DeliveryScheduler
from tests.harness.engine import at_vendor, subscribe
from tests.harness.runtime import Harness


@pytest.fixture
def mine(h: Harness) -> DeliveryScheduler:
    return DeliveryScheduler(h.runtime.clock, h.runtime.rng)


async def take(h: Harness, mine: DeliveryScheduler, room: int) -> list[ClaimedDelivery]:
    dues = await h.runtime.store.write(mine.take, room, LEASE)
    mine.begin(dues)
    return list(dues)


@pytest.mark.parametrize("room", [1, 4, 100])
async def test_more_lanes_than_are_looked_at_at_once_all_have_their_turn(
    h: Harness, mine: DeliveryScheduler, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_schedule, "_LANES_AT_ONCE", 3)
    people = [(await subscribe(h, max_in_flight=1))["id"] for _ in range(10)]
    await at_vendor(h)
    served = Counter[str]()
    while dues := await take(h, mine, room):
        served.update(due.subscriber["id"] for due in dues)
    assert served == Counter(people)


async def test_a_lane_whose_turn_did_not_come_is_served_before_the_others_again(
    h: Harness, mine: DeliveryScheduler
) -> None:
    people = [(await subscribe(h))["id"] for _ in range(6)]
    for n in range(3):
        await at_vendor(h, task=f"t-{n}")
    served = [due.subscriber["id"] for _ in people for due in await take(h, mine, 3)]
    assert Counter(served) == Counter(people * 3)
    assert [served[n : n + 3] for n in range(0, 18, 3)] == [
        [person] * 3 for person in dict.fromkeys(served)
    ]


async def test_what_became_due_is_found_when_nothing_is_left_of_an_older_round(
    h: Harness, mine: DeliveryScheduler
) -> None:
    await subscribe(h)
    late = await subscribe(h)
    await at_vendor(h, task="t-1")
    (first,) = await take(h, mine, 1)
    (second,) = await take(h, mine, 1)
    assert {first.subscriber["id"], second.subscriber["id"]} > {late["id"]}
    await at_vendor(h, task="t-2")
    assert len(await take(h, mine, 100)) == 2


async def test_a_rate_is_forgotten_only_when_it_holds_nothing_back(
    h: Harness, mine: DeliveryScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_schedule, "_MAX_BUCKETS", 3)
    for n in range(20):
        to = cast(SubscriberRow, {"id": f"sub_{n}", "rate_limit": 1.0})
        assert mine._within_rate(to, 5, h.clock.now()) == 1
        h.clock.advance(0.4)
    assert list(mine._buckets) == ["sub_17", "sub_18", "sub_19"]


async def test_a_lane_with_nothing_under_way_is_forgotten(
    h: Harness, mine: DeliveryScheduler
) -> None:
    for _ in range(5):
        await subscribe(h)
    await at_vendor(h)
    dues = await take(h, mine, 100)
    assert len(mine._in_progress) == 5
    for due in dues:
        mine.end(due)
    assert not mine._in_progress


async def test_a_place_that_is_freed_is_the_next_ones_in_its_lane(
    h: Harness, mine: DeliveryScheduler
) -> None:
    await subscribe(h, max_in_flight=2)
    for n in range(3):
        await at_vendor(h, task=f"t-{n}")
    first, _ = await take(h, mine, 100)
    assert not await take(h, mine, 100)
    mine.end(first)
    assert len(await take(h, mine, 100)) == 1
    assert mine.in_progress == 2


async def test_a_look_says_whether_to_look_again_at_once_or_when_there_is_room(
    h: Harness, mine: DeliveryScheduler
) -> None:
    for _ in range(2):
        await subscribe(h, max_in_flight=20)
    for n in range(30):
        await at_vendor(h, task=f"t-{n}")

    async def look(room: int) -> tuple[int, bool, bool]:
        dues = await h.runtime.store.write(mine.take, room, LEASE)
        mine.begin(dues)
        return len(dues), dues.more, dues.full

    assert await look(20) == (20, True, True), "the room is used up"
    assert await look(32) == (20, False, True), "so are the places"
    assert await look(32) == (0, False, True)


async def test_what_is_owed_to_somebody_who_was_deleted_meanwhile_is_dead(
    h: Harness, mine: DeliveryScheduler
) -> None:
    """Pending, it would be due for ever, and keep its job from retention."""
    gone, there = [(await subscribe(h))["id"] for _ in range(2)]
    await at_vendor(h)
    await h.run(sa.delete(subscriber).where(subscriber.c.id == gone))
    assert [due.subscriber["id"] for due in await take(h, mine, 100)] == [there]
    (row,) = await h.rows(delivery, delivery.c.subscriber_id == gone)
    assert (row["state"], row["due_at"], row["last_error"]) == ("dead", None, "subscriber_deleted")


async def test_what_is_owed_of_an_event_that_is_gone_is_forgotten(
    h: Harness, mine: DeliveryScheduler
) -> None:
    await subscribe(h)
    await at_vendor(h)
    await h.run(sa.delete(event))
    assert not await take(h, mine, 100)
    assert not await h.rows(delivery)
