"""The outbox: one event per change, one delivery per event and matching subscriber."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.events import subscribers
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import (
    DeliveryState,
    EventType,
    JobState,
    Source,
    SubscriberState,
)
from tests.harness.engine import at_vendor, event_bodies, event_types, report_state, subscribe
from tests.harness.runtime import Harness


async def owed(h: Harness, to: str) -> list[str]:
    """Return the types of the events to deliver to a subscriber."""
    types = {row["id"]: row["type"] for row in await h.rows(event)}
    return [
        types[row["event_id"]] for row in await h.rows(delivery, delivery.c.subscriber_id == to)
    ]


async def publish_one(h: Harness, **values: Any) -> bool:
    new = NewEvent(EventType.TEST, Source.OPERATOR, {"id": "x"}, **values)
    return await h.runtime.store.write(publish, h.runtime.ids, [new], h.clock.now())


@pytest.mark.parametrize(
    ("globs", "kind", "wanted"),
    [
        (("job.*",), "job.failed", True),
        (("*",), "account.push_degraded", True),
        (("job.failed", "job.expired"), "job.expired", True),
        (("job.f*",), "job.succeeded", False),
        (("job",), "job.failed", False),
        ((), "job.failed", False),
        (("JOB.*",), "job.failed", False),
    ],
)
def test_globs_match_event_types(globs: tuple[str, ...], kind: str, wanted: bool) -> None:
    assert matches(globs, kind) is wanted


async def test_every_matching_subscriber_gets_every_event_once(h: Harness) -> None:
    everything = await subscribe(h)
    ends, account = await subscribe(h, "job.succeeded"), await subscribe(h, "account.*")
    job = await at_vendor(h)
    await report_state(h, job["id"], JobState.SUCCEEDED)
    await report_state(h, job["id"], JobState.SUCCEEDED)
    assert await owed(h, everything["id"]) == ["job.submitted", "job.succeeded"]
    assert await owed(h, ends["id"]) == ["job.succeeded"]
    assert await owed(h, account["id"]) == []


async def test_an_event_is_written_even_without_a_subscriber(h: Harness) -> None:
    await at_vendor(h)
    assert await event_types(h) == ["job.submitted"]
    assert await h.rows(delivery) == []


async def test_the_body_is_the_state_at_the_time_of_the_event(h: Harness) -> None:
    job = await at_vendor(h)
    h.clock.advance(5)
    await report_state(h, job["id"], JobState.SUCCEEDED)
    first, last = await event_bodies(h)
    assert first["data"]["status"] == "submitted"
    assert last["data"]["status"] == "succeeded"
    assert (first["sequence"], last["sequence"]) == (1, 2)
    assert last["timestamp"] == "2026-11-20T10:00:05.000Z"
    assert last["data"]["output"]["videos"][0]["url"].startswith("https://")
    assert "late" not in last
    assert [row["id"] for row in await h.rows(event)] == [first["id"], last["id"]]


@pytest.mark.parametrize("state", [SubscriberState.PAUSED, SubscriberState.DISABLED])
async def test_a_paused_or_disabled_subscriber_loses_nothing(
    h: Harness, state: SubscriberState
) -> None:
    to = await subscribe(h)
    await h.runtime.store.write(subscribers.hold, to["id"], state, None)
    await at_vendor(h)
    (held,) = await h.rows(delivery)
    assert (held["state"], held["due_at"]) == (DeliveryState.HELD, None)
    h.clock.advance(9)
    await h.runtime.store.write(subscribers.resume, to["id"], h.clock.now())
    (pending,) = await h.rows(delivery)
    assert (pending["state"], pending["due_at"]) == (DeliveryState.PENDING, h.clock.now())


async def test_an_event_may_be_for_one_subscriber_or_for_all_others(h: Harness) -> None:
    first, other = await subscribe(h), await subscribe(h, "nothing.*")
    await publish_one(h, only=other["id"])
    assert await owed(h, other["id"]) == ["subscriber.test"]
    assert await owed(h, first["id"]) == []
    await publish_one(h, but=first["id"])
    assert await owed(h, first["id"]) == []


async def test_a_callback_url_gets_final_events_by_default(h: Harness) -> None:
    lane = await h.runtime.store.write(
        callback_lane, h.runtime.ids, h.runtime.keys, "https://Caller.example/a", h.clock.now()
    )
    callback = {"callback_url": "https://caller.example/a", "callback_lane": lane}
    for number, chosen in enumerate((None, ["job.*"])):
        job = await at_vendor(h, task=f"t-{number}", **callback, callback_events=chosen)
        await report_state(h, job["id"], JobState.PROCESSING)
        await report_state(h, job["id"], JobState.FAILED)
    assert await owed(h, lane) == ["job.failed", "job.submitted", "job.processing", "job.failed"]


async def test_callback_urls_of_one_origin_share_a_lane_that_is_no_subscription(h: Harness) -> None:
    urls = (
        "https://Caller.example/a",
        "https://caller.example/b?c=d",
        "https://caller.example:8443/a",
    )
    lanes = [
        await h.runtime.store.write(
            callback_lane, h.runtime.ids, h.runtime.keys, url, h.clock.now()
        )
        for url in urls
    ]
    assert lanes[0] == lanes[1] != lanes[2]
    await at_vendor(h)
    assert await h.rows(delivery) == []
    assert len(await h.rows(subscriber)) == 2


async def test_no_event_costs_no_statement(h: Harness) -> None:
    assert not await h.runtime.store.write(publish, h.runtime.ids, [], h.clock.now())
    assert await h.rows(event) == []


async def test_a_body_carries_callers_text_unchanged(h: Harness) -> None:
    job = await at_vendor(h, input={"prompt": '猫 \u2028 "quoted" </script>'})
    (row,) = await h.rows(event)
    assert json.loads(row["body"])["data"]["input"] == json.loads(encode(job["input"]))
    assert "猫".encode() in row["body"]
