"""The contract of every publisher, against a real server of each kind."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.events import destinations
from orchestrator.events.destinations import (
    Message,
    Publisher,
    PublishFailed,
    ResponseClass,
    Target,
)
from orchestrator.foundation.errors import Blocked
from tests.brokers.conftest import each_kind
from tests.brokers.events import JOB, event
from tests.brokers.server import BrokerServer

R = ResponseClass
#: Seconds that a message may take here. A call that hangs fails the test by its timeout.
DEADLINE = 10.0


def publisher(server: BrokerServer) -> Publisher:
    found = destinations.load()[server.kind]
    assert isinstance(found, Publisher)
    return found


async def publish(
    pool: PublisherPool, server: BrokerServer, message: Message, to: Target | None = None
) -> str:
    """Publish an event as a delivery does; return the receipt."""
    of, to = publisher(server), to or server.target()
    encoded = of.encode(to, message)
    return await pool.publish("sub_1", of, to, encoded, lambda: True, DEADLINE)


async def test_what_is_confirmed_is_in_the_broker(
    server: BrokerServer, pool: PublisherPool
) -> None:
    receipt = await publish(pool, server, event())
    (found,) = await server.consume()
    assert (found.id, found.body) == ("evt_1", event().body)
    assert found.key in (None, JOB)
    assert receipt
    assert "127.0.0.1" not in receipt
    assert "right" not in receipt


async def test_messages_in_flight_together_all_arrive_once(
    server: BrokerServer, pool: PublisherPool
) -> None:
    receipts = await asyncio.gather(*(publish(pool, server, event(n)) for n in range(500)))
    # In any order: one may wait for the connection, or for room in the client, that another finds.
    found = sorted(one.id for one in await server.consume())
    assert found == sorted(f"evt_{n}" for n in range(500))
    assert len(set(receipts)) == 500


async def test_a_repeat_has_the_same_id(server: BrokerServer, pool: PublisherPool) -> None:
    receipts = [await publish(pool, server, event()) for _ in range(2)]
    found = await server.consume()
    assert {one.id for one in found} == {"evt_1"}
    if server.drops_repeats:
        assert len(found) == 1
        assert "repeat" in receipts[1]


async def test_a_cloudevent_has_its_extensions(server: BrokerServer, pool: PublisherPool) -> None:
    await publish(pool, server, event(), server.target(format="cloudevents"))
    (found,) = await server.consume()
    headers = {name.lower(): value for name, value in found.headers.items()}
    if "cloudevents" in headers.get("content-type", ""):
        attributes = json.loads(found.body)
        assert attributes["data"] == event().data["data"]
    else:
        attributes = {name[3:]: value for name, value in headers.items() if name[:2] == "ce"}
        assert json.loads(found.body) == event().data["data"]
    assert (attributes["specversion"], attributes["id"]) == ("1.0", "evt_1")
    assert (attributes["sequence"], attributes["partitionkey"]) == ("0000000003", JOB)


async def test_wrong_credentials_are_named_and_not_repeated(
    server: BrokerServer, pool: PublisherPool
) -> None:
    with pytest.raises(PublishFailed) as caught:
        await publish(pool, server, event(), server.refused())
    assert (caught.value.code, caught.value.result) == ("credentials_refused", R.SHORTLY)
    assert "wrong-secret" not in str(caught.value)
    assert await server.consume() == []


@pytest.mark.parametrize("server", each_kind(creates_streams=False), indirect=True)
async def test_a_stream_that_is_missing_is_named(server: BrokerServer, pool: PublisherPool) -> None:
    to = server.missing()
    with pytest.raises(PublishFailed) as caught:
        await publish(pool, server, event(), to)
    assert caught.value.result is R.SHORTLY
    assert caught.value.code.startswith("no_")
    # The connection is as good as before.
    await publish(pool, server, event())


async def test_nothing_is_sent_where_the_policy_forbids_it(server: BrokerServer) -> None:
    pool = PublisherPool(BrokerLoop(AddressPolicy()))
    with pytest.raises(Blocked, match=r"127\.0\.0\.1"):
        await publish(pool, server, event())
    await pool.aclose()
    assert await server.consume() == []


async def test_a_stop_ends_what_is_in_flight_and_nothing_confirmed_is_lost(
    server: BrokerServer, pool: PublisherPool
) -> None:
    await publish(pool, server, event(0))
    calls = [asyncio.create_task(publish(pool, server, event(n))) for n in range(1, 200)]
    await asyncio.sleep(0)
    await pool.aclose()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in results} <= {str, PublishFailed}
    there = {one.id for one in await server.consume()}
    confirmed = {f"evt_{n}" for n, one in enumerate(results, 1) if isinstance(one, str)}
    assert confirmed <= there


async def test_a_broker_that_is_down_is_tried_later_and_then_has_the_message(
    own_server: BrokerServer, pool: PublisherPool
) -> None:
    with pytest.raises(PublishFailed) as caught:
        await publish(pool, own_server, event())
    assert (caught.value.result, caught.value.code) == (R.LATER, "connection_refused")
    own_server.start()
    await own_server.prepare()
    await publish(pool, own_server, event(1))
    own_server.kill()
    with pytest.raises(PublishFailed) as caught:
        await publish(pool, own_server, event(2))
    assert caught.value.result is R.LATER
    own_server.start()
    await publish(pool, own_server, event(2))
    assert {one.id for one in await own_server.consume()} == {"evt_1", "evt_2"}
