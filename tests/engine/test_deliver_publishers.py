"""Deliveries to brokers: confirmed before they count, over connections that are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from orchestrator.api import delivery_requests
from orchestrator.app import build
from orchestrator.database.tables import attempt, delivery, event, subscriber
from orchestrator.database.tables.rows import EventRow, SubscriberRow
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.engine import deliver_publishers
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.engine.deliver_scheduler import DeliveryScheduler
from orchestrator.engine.lifecycle import running
from orchestrator.events.destinations import (
    Publication,
    Publisher,
    PublishFailed,
    ResponseClass,
    Target,
)
from orchestrator.foundation.errors import Blocked, TooLate
from tests.harness.engine import LEASE, POLICY, at_vendor, drive, subscribe
from tests.harness.publishers import FakePublisher
from tests.harness.runtime import Harness, settings

R = ResponseClass
ADDRESS = "nats://broker.example.com:4222/video?token=hidden-in-query"


async def owed(h: Harness) -> FakePublisher:
    """Create a subscriber of a fake kind, with one due delivery; return the publisher."""
    fake = FakePublisher()
    h.runtime.destinations = {**h.runtime.destinations, "fake": fake}
    to = await subscribe(h, "job.submitted", kind="fake", url=ADDRESS)
    sealed = h.runtime.keys.encrypt(json.dumps({"token": "t-secret"}))
    mine = sa.update(subscriber).where(subscriber.c.id == to["id"])
    await h.run(mine.values(credentials=sealed))
    await at_vendor(h)
    return fake


def failing(error: Exception) -> Callable[[Publication], Any]:
    async def fail(_: Publication) -> str:
        raise error

    return fail


async def test_a_delivery_counts_once_the_broker_has_confirmed_it(h: Harness) -> None:
    fake = await owed(h)
    await drive(h.runtime.assemble(Deliverer))
    (sent,), (opened,) = fake.published, fake.targets
    (row,), (tried,), (made,) = [await h.rows(one) for one in (delivery, attempt, event)]
    assert (sent.id, sent.to, sent.body, sent.key) == (
        made["id"], "video", made["body"], made["job_id"],
    )  # fmt: skip
    assert opened.credentials == {"token": "t-secret"}
    assert row["state"] == "delivered"
    assert (tried["status"], tried["error"]) == (None, None)
    assert tried["response"] == f"stored as {made['id']}"
    assert h.network.requests == []


@pytest.mark.parametrize(
    ("error", "state", "code", "response"),
    [
        (PublishFailed("try later", code="busy"), "pending", "busy", "try later"),
        (PublishFailed("no stream", code="no_stream", result=R.SHORTLY), "pending", "no_stream",
         "no stream"),
        (PublishFailed("no", code="not_allowed", result=R.NEVER), "dead", "not_allowed", "no"),
        (PublishFailed("gone", code="gone", result=R.GONE), "dead", "gone", "gone"),
        (PublishFailed("?token=hidden-in-query", code="x"), "pending", "x", "?token=***"),
        (PublishFailed("user t-secret is unknown", code="x"), "pending", "x",
         "user *** is unknown"),
        (ConnectionResetError("secret"), "pending", "connection_reset",
         "fake: connection_reset (ConnectionResetError)"),
        (LookupError("secret"), "pending", "connection_lost",
         "fake: connection_lost (LookupError)"),
        (Blocked("10.0.0.7 is private"), "dead", "blocked_address", None),
    ],
)  # fmt: skip
async def test_a_failure_is_the_outcome_of_an_attempt(
    h: Harness, error: Exception, state: str, code: str, response: str | None
) -> None:
    fake = await owed(h)
    fake.answer = failing(error)
    await drive(h.runtime.assemble(Deliverer))
    (row,), (tried,), (to,) = [await h.rows(one) for one in (delivery, attempt, subscriber)]
    assert (row["state"], row["last_error"]) == (state, code)
    assert (tried["error"], tried["response"]) == (code, response)
    assert to["state"] == ("disabled" if code == "gone" else "active")
    assert "None" not in (to["reason"] or "")


async def test_back_pressure_rests_the_lane(h: Harness) -> None:
    fake = await owed(h)
    fake.answer = failing(PublishFailed("slow down", code="throttled", rest=30))
    await drive(h.runtime.assemble(Deliverer))
    await at_vendor(h, task="t-2")
    h.clock.advance(20)
    assert await drive(h.runtime.assemble(Deliverer)) == 0
    h.clock.advance(20)
    assert await drive(h.runtime.assemble(Deliverer)) == 2


async def test_a_message_that_waited_for_its_connection_too_long_does_not_leave(h: Harness) -> None:
    fake = await owed(h)

    async def freeze() -> None:
        h.clock.advance(LEASE)

    fake.opens = freeze
    await drive(h.runtime.assemble(Deliverer))
    (row,) = await h.rows(delivery)
    assert (fake.published, row["tries"], row["state"]) == ([], 0, "pending")
    assert row["due_at"] <= h.clock.now()


async def test_no_confirmation_within_the_deadline_is_a_failure(h: Harness) -> None:
    fake = await owed(h)

    async def never(_: Publication) -> str:
        await asyncio.Event().wait()
        return ""

    fake.answer = never
    stage, impatient = h.runtime.assemble(Deliverer), replace(POLICY, deadline=0.05)
    stage.scheduler = DeliveryScheduler(h.clock, h.runtime.rng, impatient)
    await drive(stage)
    (row,) = await h.rows(delivery)
    assert (row["state"], row["last_error"]) == ("pending", "timeout")


async def test_a_delivery_shows_the_message_without_its_secrets(h: Harness) -> None:
    to = await subscribe(
        h, "job.submitted", kind="redis", url="redis://r.example.com/0?stream=video",
        headers={"X-Team": "hush-hush"},
    )  # fmt: skip
    mine = sa.update(subscriber).where(subscriber.c.id == to["id"])
    await h.run(mine.values(credentials=h.runtime.keys.encrypt('{"password": "hush-hush"}')))
    job = await at_vendor(h)
    (made,), (row,) = [await h.rows(one) for one in (event, subscriber)]
    about, lane = cast(EventRow, made), cast(SubscriberRow, row)
    shown = delivery_requests.request_json(h.runtime, about, lane, h.clock.now())
    assert shown is not None
    assert "hush" not in json.dumps(shown)
    assert shown | {"headers": ...} == {
        "method": "PUBLISH", "url": "redis://r.example.com/0?stream=video", "to": "video",
        "key": job["id"],
        "headers": ..., "body": made["body"].decode(), "truncated": False,
    }  # fmt: skip
    assert shown["headers"]["id"] == made["id"]
    lane["address"] = "of a lost key"
    assert delivery_requests.request_json(h.runtime, about, lane, h.clock.now()) is None


# -- the pool


@pytest.fixture
async def pool() -> AsyncIterator[PublisherPool]:
    made = PublisherPool(BrokerLoop(AddressPolicy()))
    yield made
    await made.aclose()


async def publish(
    pool: PublisherPool,
    publisher: Publisher,
    lane: str = "sub_1",
    may_leave: Callable[[], bool] = lambda: True,
    **target: Any,
) -> str:
    publication = Publication("evt_1", "video", b"{}")
    to = Target(**{"address": ADDRESS} | target)
    return await pool.publish(lane, publisher, to, publication, may_leave, 5)


async def there(pool: PublisherPool, look: Callable[[], Any]) -> Any:
    """Return what a function sees on the other thread, after what is scheduled there."""

    async def run() -> Any:
        await asyncio.sleep(0)
        return look()

    return await pool.loop.run(run, 5)


async def test_messages_of_a_subscriber_share_a_connection_that_opens_once(
    pool: PublisherPool,
) -> None:
    fake = FakePublisher()
    await asyncio.gather(*(publish(pool, fake) for _ in range(50)))
    await publish(pool, fake)
    assert (len(fake.connections), len(fake.published)) == (1, 51)
    await publish(pool, fake, lane="sub_2")
    assert len(fake.connections) == 2


@pytest.mark.parametrize(
    "change",
    [{"address": "nats://other/video"}, {"credentials": {"token": "x"}}, {"options": {"a": "b"}}],
)
async def test_a_changed_target_opens_another_connection_and_closes_the_old(
    pool: PublisherPool, change: dict[str, Any]
) -> None:
    fake = FakePublisher()
    await publish(pool, fake)
    await publish(pool, fake, **change)
    old, new = fake.connections
    assert await there(pool, lambda: (old.closed.is_set(), new.closed.is_set())) == (True, False)


@pytest.mark.parametrize(
    ("error", "reopens"),
    [
        (PublishFailed("no", code="x"), False),
        (PublishFailed("no", code="x", is_broken=True), True),
        (OSError(), True),
    ],
)
async def test_a_broken_connection_is_closed_and_not_used_again(
    pool: PublisherPool, error: Exception, reopens: bool
) -> None:
    fake = FakePublisher()
    confirm, fake.answer = fake.answer, failing(error)
    with pytest.raises(PublishFailed):
        await publish(pool, fake)
    fake.answer = confirm
    await publish(pool, fake)
    assert len(fake.connections) == 1 + reopens
    assert await there(pool, fake.connections[0].closed.is_set) == reopens


async def test_a_connection_that_is_known_to_be_broken_is_replaced_before_it_is_used(
    pool: PublisherPool,
) -> None:
    fake = FakePublisher()
    await publish(pool, fake)
    fake.connections[0].breaks = True
    await publish(pool, fake)
    assert len(fake.connections) == 2


async def test_all_that_wait_for_a_connection_learn_why_it_does_not_open(
    pool: PublisherPool,
) -> None:
    fake = FakePublisher()

    async def refused() -> None:
        raise RuntimeError("secret") from ConnectionRefusedError(111, "refused")

    fake.opens = refused
    found = await asyncio.gather(*(publish(pool, fake) for _ in range(9)), return_exceptions=True)
    assert {str(error) for error in found} == {"fake: connection_refused (RuntimeError)"}
    # One that comes when it has failed tries again.
    assert len(fake.targets) < 9
    fake.opens = None
    await publish(pool, fake)


async def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    pool: PublisherPool,
) -> None:
    fake = FakePublisher()

    async def imports() -> None:
        raise ModuleNotFoundError("No module named 'nats'", name="nats")

    fake.opens = imports
    with pytest.raises(PublishFailed, match=r"pip install 'orchestrator\[nats\]'") as caught:
        await publish(pool, fake)
    assert (caught.value.code, caught.value.result) == ("extra_missing", R.LATER)


@pytest.mark.parametrize(
    ("hosts", "error"), [(["10.0.0.7"], Blocked), (["127.0.0.1", "10.0.0.7"], PublishFailed)]
)
async def test_an_address_that_is_blocked_is_terminal_unless_the_broker_itself_was_reached(
    hosts: list[str], error: type[Exception]
) -> None:
    pool = PublisherPool(BrokerLoop(AddressPolicy(["127.0.0.0/8"])))
    fake = FakePublisher()
    ended = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connects() -> None:
        try:
            for host in hosts:
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                await writer.wait_closed()
        except Exception as wrapped:
            raise RuntimeError("a library says nothing of the cause") from wrapped

    fake.opens = connects
    async with server:
        with pytest.raises(error, match=r"10\.0\.0\.7"):
            await publish(pool, fake)
        if hosts[0].startswith("127."):
            await ended.wait()
    await pool.aclose()


async def test_a_claim_that_ended_while_the_connection_opened_sends_nothing(
    pool: PublisherPool,
) -> None:
    fake = FakePublisher()
    with pytest.raises(TooLate):
        await publish(pool, fake, may_leave=lambda: False)
    assert not fake.published


async def test_unused_connections_are_closed_when_idle_and_beyond_the_bound(
    pool: PublisherPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_publishers, "MOST", 2)
    fake = FakePublisher()
    for lane in ("sub_1", "sub_2", "sub_3"):
        await publish(pool, fake, lane=lane)
    closed = [one.closed for one in fake.connections]
    assert await there(pool, lambda: [one.is_set() for one in closed]) == [True, False, False]
    monkeypatch.setattr(deliver_publishers, "IDLE", 0.0)
    await there(pool, pool._sweep)
    assert await there(pool, lambda: all(one.is_set() for one in closed))


async def test_a_stop_closes_connections_also_while_one_opens() -> None:
    pool, fake, slow = PublisherPool(BrokerLoop(AddressPolicy())), FakePublisher(), FakePublisher()
    await publish(pool, fake)

    async def hangs() -> None:
        await asyncio.Event().wait()

    slow.opens = hangs
    waiting = asyncio.create_task(publish(pool, slow, lane="sub_2"))
    await there(pool, lambda: None)
    await pool.aclose()
    with pytest.raises(PublishFailed):
        await waiting
    assert fake.connections[0].closed.is_set()
    assert not pool.loop.is_running


async def test_a_service_that_stops_closes_its_connections(tmp_path: Path) -> None:
    runtime, fake = build(settings(tmp_path)), FakePublisher()
    async with running(runtime):
        await publish(runtime.publishers, fake)
    assert fake.connections[0].closed.is_set()
    assert not runtime.publishers.loop.is_running


def test_a_pool_that_never_published_has_no_thread() -> None:
    pool = PublisherPool(BrokerLoop(AddressPolicy()))
    asyncio.run(pool.aclose())
    assert not pool.loop.is_running
