"""An ordered subscriber: the events of one job come one after the other, in sequence."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.database import delivery_order
from orchestrator.database.delivery_order import first_in_order, make_next_due
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.engine.deliver import Deliverer
from orchestrator.events import subscribers
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import DeliveryState, JobState, SubscriberState
from tests.database.test_queue import plans
from tests.harness import databases
from tests.harness.engine import LEASE, at_vendor, drive, report_state, subscribe
from tests.harness.runtime import START, Harness, open_harness

D = DeliveryState
STEPS = (JobState.PROCESSING, JobState.SUCCEEDED)


async def job_with_events(h: Harness, task: str) -> str:
    """Create a job with three events; return its id."""
    job = await at_vendor(h, task=task)
    for state in STEPS:
        await report_state(h, job["id"], state)
    return job["id"]


async def heard(h: Harness, *bad: tuple[str, int], status: int = 500) -> list[tuple[str, int]]:
    """Run the stage until nothing is due; return (job, sequence) of what arrived, in order.

    What is in `bad` is answered with `status`.
    """
    stage, before = h.runtime.assemble(Deliverer), len(h.network.requests)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status if arrived(request) in bad else 204)

    h.network.answer = answer
    while await drive(stage):
        continue
    return [arrived(request) for request in h.network.requests[before:]]


def arrived(request: httpx.Request) -> tuple[str, int]:
    body = httpx.Response(200, content=request.content).json()
    return body["data"]["id"], body["sequence"]


async def states(h: Harness) -> list[str]:
    rows = await h.rows(delivery)
    order = {row["id"]: row["sequence"] for row in await h.rows(event)}
    return [row["state"] for row in sorted(rows, key=lambda row: order[row["event_id"]])]


async def test_a_failing_event_holds_back_later_ones_of_its_job_alone(h: Harness) -> None:
    await subscribe(h, "job.*", ordered=True)
    first, second = [await job_with_events(h, task) for task in ("t-1", "t-2")]
    got = await heard(h, (first, 2))
    assert [n for job, n in got if job == second] == [1, 2, 3]
    assert [n for job, n in got if job == first] == [1, 2]
    assert await heard(h) == []
    h.clock.advance(3600)
    assert await heard(h) == [(first, 2), (first, 3)], "it is delivered, and then the next at once"


async def test_a_dead_delivery_lets_the_next_pass(h: Harness) -> None:
    await subscribe(h, "job.*", ordered=True)
    job = await job_with_events(h, "t-1")
    await h.run(sa.update(delivery).values(tries=100))
    h.clock.advance(30 * 86_400)
    assert await heard(h, (job, 1)) == [(job, 1), (job, 2), (job, 3)]
    assert await states(h) == [D.DEAD, D.DELIVERED, D.DELIVERED]


async def test_an_unordered_subscriber_does_not_wait(h: Harness) -> None:
    await subscribe(h, "job.*")
    job = await job_with_events(h, "t-1")
    assert {*await heard(h, (job, 1))} == {(job, 1), (job, 2), (job, 3)}


async def test_an_event_in_flight_blocks_the_next_in_every_process(h: Harness) -> None:
    await subscribe(h, "job.*", ordered=True)
    await job_with_events(h, "t-1")
    one, other = h.runtime.assemble(Deliverer), h.runtime.assemble(Deliverer)
    (claim,) = await one.take(100)
    assert list(await other.take(100)) == []
    h.network.answer = lambda _: httpx.Response(204)
    await one.work(claim)
    (following,) = await other.take(100)
    assert following.row["tries"] == 0
    assert following.row["id"] != claim.row["id"]


async def test_a_forced_retry_waits_for_its_turn(h: Harness) -> None:
    to = await subscribe(h, "job.*", ordered=True)
    job = await job_with_events(h, "t-1")
    await heard(h, (job, 1))
    await h.run(sa.update(subscriber).values(resting_until=after(h.clock.now(), 60)))
    third = (await h.rows(delivery, delivery.c.subscriber_id == to["id"]))[-1]
    forced = {"due_at": h.clock.now(), "forced_at": h.clock.now()}
    await h.run(sa.update(delivery).where(delivery.c.id == third["id"]).values(**forced))
    assert await heard(h) == []
    h.clock.advance(3600)
    assert await heard(h) == [(job, 1), (job, 2), (job, 3)]


async def test_held_deliveries_come_in_sequence_after_a_pause(h: Harness) -> None:
    to = await subscribe(h, "job.*", ordered=True)
    job = await job_with_events(h, "t-1")
    await heard(h, (job, 1))
    write = h.runtime.store.write
    await write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    h.clock.advance(3600)
    assert await heard(h) == []
    await write(subscribers.resume, to["id"], h.clock.now())
    assert await heard(h) == [(job, 1), (job, 2), (job, 3)]


async def test_the_order_may_be_turned_on_and_off_while_deliveries_wait(h: Harness) -> None:
    to = await subscribe(h, "job.*")
    job = await job_with_events(h, "t-1")
    await heard(h, (job, 1), (job, 2), (job, 3))
    write = h.runtime.store.write
    await write(subscribers.change, to["id"], {"ordered": True})
    h.clock.advance(3600)
    assert await heard(h, (job, 2)) == [(job, 1), (job, 2)]
    later = await job_with_events(h, "t-2")
    assert await heard(h, (later, 1)) == [(later, 1)]
    await write(subscribers.change, to["id"], {"ordered": False})
    assert {*await heard(h)} == {(later, 2), (later, 3)}


async def test_blocked_deliveries_are_read_once_for_each_attempt_before_them(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane with many blocked deliveries is claimed from as quickly as any other."""
    monkeypatch.setattr(delivery_order, "_WINDOW", 3)
    to = await subscribe(h, "job.*", ordered=True)
    jobs = [await job_with_events(h, f"t-{n}") for n in range(8)]
    await heard(h, *((job, 1) for job in jobs))
    late = await job_with_events(h, "t-late")
    ready = delivery.c.subscriber_id == to["id"], delivery.c.due_at <= h.clock.now()
    assert len(await h.rows(delivery, *ready)) == 3
    assert await heard(h) == [(late, 1), (late, 2), (late, 3)]


async def test_a_blocked_delivery_waits_no_longer_than_a_lease(h: Harness) -> None:
    """However long the one before it does: another process may end the order meanwhile."""
    to = await subscribe(h, "job.*", ordered=True)
    job = await job_with_events(h, "t-1")
    await heard(h, (job, 1))
    mine = delivery.c.subscriber_id == to["id"]
    first, *_ = sorted(await h.rows(delivery, mine), key=lambda row: str(row["id"]))
    its_own = delivery.c.id == first["id"]
    await h.run(sa.update(delivery).where(its_own).values(due_at=after(h.clock.now(), 86_400)))
    h.clock.advance(LEASE + 1)
    assert await heard(h) == []
    blocked = await h.rows(delivery, mine, ~its_own)
    assert {row["due_at"] for row in blocked} == {after(h.clock.now(), LEASE)}


async def test_an_ordered_claim_reads_by_index(h: Harness) -> None:
    to = await subscribe(h, "job.*", ordered=True)
    await job_with_events(h, "t-1")
    found = await plans(
        h, first_in_order_of, to["id"], [row["id"] for row in await h.rows(delivery)]
    )
    text = "\n".join(found)
    if "USING INDEX" in text:
        assert "SCAN delivery" not in text.replace("SCAN first_due", ""), text
        assert "SCAN event" not in text, text
        assert "ix_delivery_due" in text, text
        assert "ix_event_job" in text, text


def first_in_order_of(tx: Tx, lane: str, ids: list[str]) -> None:
    first_in_order(tx, lane, 16, START, after(START, LEASE), forced=False)
    make_next_due(tx, ids, START)


async def test_a_wake_up_is_not_lost_to_a_claim_that_postpones(tmp_path: Path) -> None:
    """The claim has read that the first is pending; meanwhile another process delivers it."""
    address = databases.url("postgresql", tmp_path)
    async with open_harness(tmp_path, database_url=address) as h:
        await subscribe(h, "job.*", ordered=True)
        await job_with_events(h, "t-1")
        first, second, _ = await h.rows(delivery)
        engine = sa.create_engine(h.runtime.store._database.reading.url)
        done = threading.Event()

        def deliver_first() -> None:
            with engine.begin() as tx:
                one = sa.update(delivery).where(delivery.c.id == first["id"])
                tx.execute(one.values(state=D.DELIVERED, due_at=None))
                make_next_due(tx, [first["id"]], h.clock.now())
            done.set()

        with engine.begin() as claiming:
            until = after(h.clock.now(), LEASE)
            lane = first["subscriber_id"]
            assert first_in_order(claiming, lane, 16, h.clock.now(), until, forced=False) == [
                first["id"]
            ]
            other = threading.Thread(target=deliver_first)
            other.start()
            assert not done.wait(0.2), "it waits for the claim"
        other.join()
        (now,) = await h.rows(delivery, delivery.c.id == second["id"])
        assert now["due_at"] == h.clock.now()
        engine.dispose()
    databases.drop(address)


async def test_an_event_that_comes_while_the_one_before_it_is_recorded_is_not_postponed(
    tmp_path: Path,
) -> None:
    """The transaction that delivers the first looked for a second before there was one."""
    address = databases.url("postgresql", tmp_path)
    async with open_harness(tmp_path, database_url=address) as h:
        to = await subscribe(h, "job.*", ordered=True)
        job = await at_vendor(h)
        (first,) = await h.rows(delivery)
        engine = sa.create_engine(h.runtime.store._database.reading.url)
        claim = functools.partial(
            first_in_order, lane=to["id"], share=16, now=h.clock.now(),
            until=after(h.clock.now(), LEASE), forced=False,
        )  # fmt: skip
        with engine.begin() as recording:
            one = sa.update(delivery).where(delivery.c.id == first["id"])
            recording.execute(one.values(state=D.DELIVERED, due_at=None))
            make_next_due(recording, [first["id"]], h.clock.now())
            await report_state(h, job["id"], JobState.SUCCEEDED)
            with engine.begin() as claiming:
                assert claim(claiming) == []
        (second,) = await h.rows(delivery, delivery.c.id != first["id"])
        with engine.begin() as claiming:
            assert claim(claiming) == [second["id"]]
        engine.dispose()
    databases.drop(address)
