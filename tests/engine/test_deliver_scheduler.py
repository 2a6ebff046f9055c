"""The delivery scheduler: lanes with due deliveries are all served; idle lanes use no memory."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest
import sqlalchemy as sa

from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine import deliver_scheduler
from orchestrator.engine.deliver_scheduler import ClaimedDelivery, DeliveryScheduler
from tests.harness.engine import POLICY, at_vendor, subscribe
from tests.harness.runtime import Harness


@pytest.fixture
def scheduler(h: Harness) -> DeliveryScheduler:
    return DeliveryScheduler(h.runtime.clock, h.runtime.rng, POLICY)


async def take(h: Harness, scheduler: DeliveryScheduler, room: int) -> list[ClaimedDelivery]:
    claims = await h.runtime.store.write(scheduler.take, room)
    scheduler.begin(claims)
    return list(claims)


@pytest.mark.parametrize("room", [1, 4, 100])
async def test_more_lanes_than_one_query_reads_are_all_served(
    h: Harness, scheduler: DeliveryScheduler, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_scheduler, "_LANES_AT_ONCE", 3)
    lanes = [(await subscribe(h, max_in_flight=1))["id"] for _ in range(10)]
    await at_vendor(h)
    served = Counter[str]()
    while claims := await take(h, scheduler, room):
        served.update(claim.subscriber["id"] for claim in claims)
    assert served == Counter(lanes)


async def test_a_lane_not_yet_served_in_a_round_comes_before_lanes_already_served(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    lanes = [(await subscribe(h))["id"] for _ in range(6)]
    for n in range(3):
        await at_vendor(h, task=f"t-{n}")
    served = [claim.subscriber["id"] for _ in lanes for claim in await take(h, scheduler, 3)]
    assert Counter(served) == Counter(lanes * 3)
    assert [served[n : n + 3] for n in range(0, 18, 3)] == [
        [lane] * 3 for lane in dict.fromkeys(served)
    ]


async def test_new_due_deliveries_are_found_when_a_round_is_complete(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    await subscribe(h)
    late = await subscribe(h)
    await at_vendor(h, task="t-1")
    (first,) = await take(h, scheduler, 1)
    (second,) = await take(h, scheduler, 1)
    assert {first.subscriber["id"], second.subscriber["id"]} > {late["id"]}
    await at_vendor(h, task="t-2")
    assert len(await take(h, scheduler, 100)) == 2


async def test_a_token_bucket_is_dropped_only_when_it_is_full_again(
    h: Harness, scheduler: DeliveryScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_scheduler, "_MAX_BUCKETS", 3)
    for n in range(20):
        to = cast(SubscriberRow, {"id": f"sub_{n}", "rate_limit": 1.0})
        assert scheduler._within_rate(to, 5, h.clock.now()) == 1
        h.clock.advance(0.4)
    assert list(scheduler._buckets) == ["sub_17", "sub_18", "sub_19"]


async def test_a_lane_with_nothing_in_progress_is_dropped(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    for _ in range(5):
        await subscribe(h)
    await at_vendor(h)
    claims = await take(h, scheduler, 100)
    assert len(scheduler._in_progress) == 5
    for claim in claims:
        scheduler.end(claim)
    assert not scheduler._in_progress


async def test_a_freed_slot_goes_to_the_next_delivery_of_its_lane(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    await subscribe(h, max_in_flight=2)
    for n in range(3):
        await at_vendor(h, task=f"t-{n}")
    first, _ = await take(h, scheduler, 100)
    assert not await take(h, scheduler, 100)
    scheduler.end(first)
    assert len(await take(h, scheduler, 100)) == 1
    assert scheduler.in_progress == 2


async def test_a_claim_reports_whether_to_claim_again_at_once_or_when_a_slot_is_free(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    for _ in range(2):
        await subscribe(h, max_in_flight=20)
    for n in range(30):
        await at_vendor(h, task=f"t-{n}")

    async def claim(room: int) -> tuple[int, bool, bool]:
        claims = await h.runtime.store.write(scheduler.take, room)
        scheduler.begin(claims)
        return len(claims), claims.more, claims.full

    assert await claim(20) == (20, True, True), "the limit of this claim is reached"
    assert await claim(32) == (20, False, True), "the limits of both lanes are reached"
    assert await claim(32) == (0, False, True)


async def test_a_delivery_whose_subscriber_was_deleted_becomes_dead(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    """If it stayed pending, it would be due for ever and keep its job from retention."""
    deleted, kept = [(await subscribe(h))["id"] for _ in range(2)]
    await at_vendor(h)
    await h.run(sa.delete(subscriber).where(subscriber.c.id == deleted))
    assert [claim.subscriber["id"] for claim in await take(h, scheduler, 100)] == [kept]
    (row,) = await h.rows(delivery, delivery.c.subscriber_id == deleted)
    assert (row["state"], row["due_at"], row["last_error"]) == ("dead", None, "subscriber_deleted")


async def test_a_delivery_whose_event_is_gone_is_deleted(
    h: Harness, scheduler: DeliveryScheduler
) -> None:
    await subscribe(h)
    await at_vendor(h)
    await h.run(sa.delete(event))
    assert not await take(h, scheduler, 100)
    assert not await h.rows(delivery)
