"""The deliverer: signed, at least once, lanes isolated from each other, no redirect followed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any, cast

import httpx
import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook

from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, callback_address, delivery, event, job, subscriber
from orchestrator.database.tables.rows import DeliveryRow
from orchestrator.engine import deliver as deliver_stage
from orchestrator.engine import deliver_health
from orchestrator.engine.deliver import LIMIT, STORED, Deliverer
from orchestrator.engine.deliver_health import FAILURES, SPACING, LaneChange
from orchestrator.engine.deliver_results import Attempted
from orchestrator.engine.deliver_scheduler import ClaimedDelivery
from orchestrator.engine.worker import Worker
from orchestrator.events import subscribers
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.events.destinations import webhook
from orchestrator.foundation import off_loop
from orchestrator.foundation.clock import after, tries_by
from orchestrator.foundation.errors import Blocked
from orchestrator.foundation.signing import standard_webhooks
from orchestrator.foundation.states import DeliveryState, JobState, SubscriberState
from tests.harness.engine import (
    LEASE,
    POLICY,
    BrokenOff,
    at_vendor,
    drive,
    event_types,
    report_state,
    seconds_until_due,
    subscribe,
)
from tests.harness.runtime import Harness

D = DeliveryState
OK = httpx.Response(204)
Responder = Callable[[httpx.Request], httpx.Response]


async def only_delivery(h: Harness, *where: sa.ColumnElement[bool]) -> DeliveryRow:
    """Return the only delivery."""
    (row,) = await h.rows(delivery, *where)
    return cast(DeliveryRow, row)


async def deliver(h: Harness, answer: httpx.Response | Responder | Exception) -> int:
    """Run the stage once."""

    def answered(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    h.network.answer = answered
    return await drive(h.runtime.assemble(Deliverer))


async def due_delivery(h: Harness, **values: Any) -> dict[str, Any]:
    """Create a subscriber with one due delivery; return the subscriber."""
    to = await subscribe(h, "job.submitted", **values)
    await at_vendor(h, task=h.runtime.ids("job"))
    return to


def by_host(**answers: httpx.Response | Exception) -> Responder:
    def answer(request: httpx.Request) -> httpx.Response:
        found = answers[request.url.host.partition(".")[0]]
        if isinstance(found, Exception):
            raise found
        return found

    return answer


# -- the request


async def test_a_delivery_is_the_stored_event_with_a_signature_that_the_public_library_makes(
    h: Harness,
) -> None:
    to = await due_delivery(h, headers={"x-mine": "1"})
    await deliver(h, OK)
    (sent,) = h.network.requests
    (row,) = await h.rows(event)
    assert (sent.method, str(sent.url), sent.content) == (
        "POST",
        "https://app.example.com/hook",
        row["body"],
    )
    assert (sent.headers["webhook-id"], sent.headers["x-mine"]) == (row["id"], "1")
    assert sent.headers["content-type"] == "application/json"
    h_now = int(h.clock.now().timestamp())
    assert sent.headers["webhook-timestamp"] == str(h_now)
    signature = Webhook(to["secret"]).sign(row["id"], h.clock.now(), sent.content.decode())
    assert sent.headers["webhook-signature"] == signature


async def test_the_request_of_a_large_event_is_built_off_the_loop(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await due_delivery(h, options={"format": "cloudevents"})
    (row,) = await h.rows(event)
    run, threads = webhook.Webhook.request, list[str]()

    def noted(self: webhook.Webhook, *args: Any) -> httpx.Request:
        threads.append(threading.current_thread().name)
        return run(self, *args)

    monkeypatch.setattr(webhook.Webhook, "request", noted)
    monkeypatch.setattr(off_loop, "LARGE", len(row["body"]))
    await deliver(h, OK)
    assert len(h.network.requests) == 1
    assert [name.startswith("bodies for receivers") for name in threads] == [True]


async def test_every_valid_key_signs_during_a_rotation_and_the_old_key_not_after_it(
    h: Harness,
) -> None:
    to = await due_delivery(h)
    new_secret = standard_webhooks.new_secret()
    hidden = h.runtime.keys.encrypt(new_secret)
    assert await h.runtime.store.write(subscribers.rotate, to["id"], hidden, 60.0, h.clock.now())

    async def signatures() -> list[str]:
        await deliver(h, httpx.Response(500))
        sent = h.network.requests[-1]
        made = [
            Webhook(key).sign(sent.headers["webhook-id"], h.clock.now(), sent.content.decode())
            for key in keys
        ]
        given = sent.headers["webhook-signature"].split(" ")
        return [key for key, signature in zip(keys, made, strict=True) if signature in given]

    keys = [new_secret, to["secret"]]
    assert await signatures() == keys
    h.clock.advance(seconds_until_due(h, await only_delivery(h)) + 60)
    assert await signatures() == [new_secret]


async def test_a_retry_has_the_same_id_and_body_and_a_new_timestamp(h: Harness) -> None:
    await due_delivery(h)
    await deliver(h, httpx.Response(500))
    h.clock.advance(6)
    await deliver(h, OK)
    first, second = h.network.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.content == second.content
    assert int(second.headers["webhook-timestamp"]) == int(first.headers["webhook-timestamp"]) + 6


async def test_a_delivery_to_a_callback_url_is_signed_with_the_callback_secret(h: Harness) -> None:
    url = "https://caller.example/done?order=1"
    lane = await h.runtime.store.write(
        callback_lane, h.runtime.ids, h.runtime.keys, url, h.clock.now()
    )
    job = await at_vendor(h, callback_url=url, callback_lane=lane)
    await report_state(h, job["id"], JobState.SUCCEEDED)
    await deliver(h, OK)
    (sent,) = h.network.requests
    assert str(sent.url) == url
    (secret,) = h.runtime.keys.callback_secrets
    signature = Webhook(secret).sign(
        sent.headers["webhook-id"], h.clock.now(), sent.content.decode()
    )
    assert sent.headers["webhook-signature"] == signature


# -- the answer


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_a_success(h: Harness, status: int) -> None:
    await due_delivery(h)
    await deliver(h, httpx.Response(status))
    row = await only_delivery(h)
    assert (row["state"], row["due_at"], row["tries"], row["last_status"]) == (
        D.DELIVERED,
        None,
        1,
        status,
    )
    assert row["done_at"] == h.clock.now()
    assert await deliver(h, OK) == 0


async def test_a_2xx_whose_body_breaks_off_is_a_success(h: Harness) -> None:
    await due_delivery(h)
    await deliver(h, httpx.Response(200, stream=BrokenOff(b"half")))
    row = await only_delivery(h)
    assert (row["state"], row["last_status"], row["last_error"]) == (D.DELIVERED, 200, None)


async def attempts_until_dead(h: Harness, answer: httpx.Response | Exception) -> list[float]:
    """Answer every attempt alike until the delivery is dead; return the waits in seconds."""
    waits = []
    for _ in range(20):
        assert await deliver(h, answer) == 1
        row = await only_delivery(h, delivery.c.state != D.DELIVERED)
        if row["state"] != D.PENDING:
            break
        waits.append(seconds_until_due(h, row))
        h.clock.advance(waits[-1])
    assert row["state"] == D.DEAD
    assert (row["due_at"], row["done_at"]) == (None, h.clock.now())
    return waits


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(500), httpx.Response(503), httpx.Response(429), httpx.Response(408),
     httpx.ConnectError("refused"), httpx.ReadTimeout("silence")],
)  # fmt: skip
async def test_a_transient_failure_gets_the_standard_schedule_with_jitter_upward(
    h: Harness, answer: httpx.Response | Exception
) -> None:
    await due_delivery(h)
    waits = await attempts_until_dead(h, answer)
    assert len(waits) + 1 == len(h.network.requests) == len(POLICY.schedule) == 10
    assert all(
        low <= wait <= low * 1.2 for low, wait in zip(POLICY.schedule[1:], waits, strict=True)
    )
    assert waits != list(POLICY.schedule[1:])


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 405, 415, 422])
async def test_a_status_of_a_misconfiguration_gets_the_short_schedule(
    h: Harness, status: int
) -> None:
    await due_delivery(h)
    waits = await attempts_until_dead(
        h, httpx.Response(status, headers={"location": "https://evil.example/"})
    )
    assert len(waits) + 1 == len(POLICY.short_schedule)
    assert {request.url.host for request in h.network.requests} == {"app.example.com"}


async def test_a_redirect_is_not_followed_and_is_recorded_as_the_error(h: Harness) -> None:
    await due_delivery(h)
    await deliver(h, httpx.Response(301, headers={"location": "http://127.0.0.1/"}))
    assert (await only_delivery(h))["last_error"] == "redirect_not_followed"


async def test_a_blocked_address_is_dead_at_once(h: Harness) -> None:
    await due_delivery(h)
    await deliver(h, Blocked("10.0.0.1 is not public"))
    assert ((await only_delivery(h))["state"], (await only_delivery(h))["last_error"]) == (
        D.DEAD,
        "blocked_address",
    )


async def test_every_attempt_is_recorded(h: Harness) -> None:
    await due_delivery(h)
    await deliver(h, httpx.Response(500, text="no\0\ud7ff" + "x" * 5000))
    h.clock.advance(6)
    await deliver(h, httpx.ConnectError("refused"))
    h.clock.advance(400)
    await deliver(h, httpx.Response(200, text="thanks"))
    tried = sorted(await h.rows(attempt), key=lambda row: int(row["n"]))
    assert [(row["n"], row["status"], row["error"]) for row in tried] == [
        (1, 500, "status_500"), (2, None, "not_sent"), (3, 200, None),
    ]  # fmt: skip
    assert [row["response"] for row in tried][1:] == [None, "thanks"]
    assert len(tried[0]["response"]) <= STORED
    assert (await only_delivery(h))["tries"] == 3


# -- Retry-After


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_holds_the_whole_lane_for_its_full_time(h: Harness, form: str) -> None:
    to = await due_delivery(h)
    until = after(h.clock.now(), 600)
    value = "600" if form == "seconds" else format_datetime(until, usegmt=True)
    await deliver(h, httpx.Response(429, headers={"retry-after": value}))
    await at_vendor(h, task="t-more")
    h.clock.advance(599)
    assert await deliver(h, OK) == 0, "not even the new delivery"
    h.clock.advance(1)
    assert await deliver(h, OK) == 2
    (row,) = await h.rows(subscriber, subscriber.c.id == to["id"])
    assert row["resting_until"] == until


async def test_a_retry_after_shorter_than_the_schedule_does_not_shorten_it(h: Harness) -> None:
    await due_delivery(h)
    await deliver(h, httpx.Response(503, headers={"retry-after": "1"}))
    assert seconds_until_due(h, await only_delivery(h)) >= 5


async def test_retry_after_of_a_lane_does_not_hold_another_lane(h: Harness) -> None:
    await subscribe(h, url="https://resting.example.com/")
    await subscribe(h, url="https://ready.example.com/")
    await at_vendor(h)
    unavailable = httpx.Response(503, headers={"retry-after": "3600"})
    assert await deliver(h, by_host(resting=unavailable, ready=OK)) == 2
    await at_vendor(h, task="t-2")
    assert await deliver(h, by_host(ready=OK)) == 1


# -- 410


async def test_a_410_disables_the_subscriber_holds_its_deliveries_and_notifies_the_others(
    h: Harness,
) -> None:
    gone, other = (
        await subscribe(h, url="https://gone.example.com/"),
        await subscribe(h, url="https://ok.example.com/"),
    )
    await at_vendor(h)
    stage = h.runtime.assemble(Deliverer)
    claims = await stage.take(10)
    await at_vendor(h, task="t-2")
    h.network.answer = by_host(gone=httpx.Response(410, text="moved away"), ok=OK)
    for claim in claims:
        await stage.work(claim)
    (row,) = await h.rows(subscriber, subscriber.c.id == gone["id"])
    assert (row["state"], row["reason"]) == (
        SubscriberState.DISABLED,
        "the address answered 410: moved away",
    )
    states = Counter(
        each["state"] for each in await h.rows(delivery, delivery.c.subscriber_id == gone["id"])
    )
    assert states == {D.DEAD: 1, D.HELD: 1}
    (disabled,) = await h.rows(event, event.c.type == "subscriber.disabled")
    assert json.loads(disabled["body"])["data"]["id"] == gone["id"]
    owed_to = [
        each["subscriber_id"]
        for each in await h.rows(delivery, delivery.c.event_id == disabled["id"])
    ]
    assert owed_to == [other["id"]]


async def test_concurrent_410s_are_announced_once(h: Harness) -> None:
    await subscribe(h)
    for n in range(3):
        await at_vendor(h, task=f"t-{n}")
    h.network.answer = lambda _: httpx.Response(410)
    stage = h.runtime.assemble(Deliverer)
    await asyncio.gather(*(stage.work(claim) for claim in await stage.take(10)))
    assert (await event_types(h)).count("subscriber.disabled") == 1


async def test_a_410_from_a_callback_url_ends_that_delivery_only(h: Harness) -> None:
    lane = await h.runtime.store.write(
        callback_lane, h.runtime.ids, h.runtime.keys, "https://a.example/1", h.clock.now()
    )
    for n in range(2):
        job = await at_vendor(
            h, task=f"t-{n}", callback_url=f"https://a.example/{n}", callback_lane=lane
        )
        await report_state(h, job["id"], JobState.SUCCEEDED)
    await deliver(h, lambda request: httpx.Response(410 if request.url.path == "/0" else 200))
    assert Counter(row["state"] for row in await h.rows(delivery)) == {D.DEAD: 1, D.DELIVERED: 1}
    (row,) = await h.rows(subscriber)
    assert row["state"] == SubscriberState.ACTIVE
    assert "subscriber.disabled" not in await event_types(h)


async def called_back(h: Harness, *urls: str) -> None:
    """Complete a job for each callback URL."""
    for url in urls:
        lane = await h.runtime.store.write(
            callback_lane, h.runtime.ids, h.runtime.keys, url, h.clock.now()
        )
        sealed = h.runtime.keys.seal_address(url)
        job = await at_vendor(
            h, task=h.runtime.ids("tsk"), callback_url=sealed.encrypted, callback_key=sealed.key,
            callback_lane=lane,
        )  # fmt: skip
        await report_state(h, job["id"], JobState.SUCCEEDED)


async def test_a_callback_url_that_rests_delays_only_deliveries_to_itself(h: Harness) -> None:
    busy, fine = "https://a.example/busy?key=1", "https://a.example/fine"

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/busy":
            return httpx.Response(429, headers={"retry-after": "3600"})
        return httpx.Response(200)

    await called_back(h, busy)
    await deliver(h, respond)
    await called_back(h, busy, busy, fine)
    await deliver(h, respond)
    await deliver(h, respond)
    assert [str(request.url) for request in h.network.requests] == [busy, fine]
    (address,) = await h.rows("callback_address")
    assert (address["failures"], address["last_error"]) == (1, "status_429")
    rows = await h.rows(delivery)
    assert {row["due_at"] for row in rows if row["due_at"]} == {after(h.clock.now(), 3600)}
    h.clock.advance(3601)
    await deliver(h, httpx.Response(200))
    assert Counter(row["state"] for row in await h.rows(delivery)) == {D.DELIVERED: 4}
    (address,) = await h.rows("callback_address")
    assert (address["failures"], address["failing_since"]) == (0, None)


async def test_a_long_backlog_of_a_resting_callback_url_does_not_delay_its_host(h: Harness) -> None:
    busy = "https://a.example/busy"
    await called_back(h, *[busy] * 40)
    await h.run(sa.insert(callback_address).values(
        key=h.runtime.keys.seal_address(busy).key, lane="sub_x", failures=1, last_error=None,
        resting_until=after(h.clock.now(), 60), failing_since=None, updated_at=h.clock.now(),
    ))  # fmt: skip
    await called_back(h, "https://a.example/fine")
    stage = h.runtime.assemble(Deliverer)
    assert (await stage.take(10)).more
    assert [claim.event["callback_key"] for claim in await stage.take(10)] == [
        h.runtime.keys.seal_address("https://a.example/fine").key
    ]


async def test_one_look_postpones_500_deliveries_whichever_resting_urls_they_are_for(
    h: Harness,
) -> None:
    """Once per lane, not once per URL: a host may have ten thousand URLs that rest."""
    await called_back(h, "https://a.example/0")
    (job_row,), (owed,) = await h.rows(job), await h.rows(delivery)
    (event_row,) = await h.rows(event, event.c.id == owed["event_id"])
    await h.runtime.store.write(
        lambda tx: [
            tx.execute(sa.text("analyze " + t))
            for t in ("job", "event", "delivery", "callback_address")
        ]
    )
    rests = {"lane": "x", "resting_until": after(h.clock.now(), 60), "updated_at": h.clock.now()}
    keys = [f"key-{n}" for n in range(600)]
    copies: list[tuple[sa.Table, list[dict[str, Any]]]] = [
        (job, [job_row | {"id": key, "callback_key": key, "external_task_id": key,
                          "vendor_task_id": key} for key in keys]),
        (event, [event_row | {"id": key, "job_id": key, "position": None} for key in keys]),
        (delivery, [owed | {"id": key, "event_id": key} for key in keys]),
        (callback_address, [rests | {"key": key, "failures": 1} for key in keys]),
    ]  # fmt: skip
    for table, rows in copies:
        await h.runtime.store.write(insert, table, rows)
    await h.run(sa.update(delivery).where(delivery.c.id == owed["id"]).values(due_at=None))
    assert not await h.runtime.assemble(Deliverer).take(8)
    postponed = await h.rows(delivery, delivery.c.due_at == rests["resting_until"])
    assert len(postponed) == 8 + 500


def insert(tx: Tx, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    tx.execute(sa.insert(table), rows)


async def test_an_operators_retry_does_not_wait_for_a_resting_receiver(h: Harness) -> None:
    busy = "https://a.example/busy"
    await subscribe(h, "job.succeeded")
    await called_back(h, busy)
    rest = httpx.Response(429, headers={"retry-after": "3600"})
    assert await deliver(h, lambda _: rest) == 2
    forced = {"due_at": h.clock.now(), "forced_at": h.clock.now()}
    await h.run(sa.update(delivery).values(**forced))
    assert await deliver(h, httpx.Response(200)) == 2
    rows = await h.rows(delivery)
    assert {(row["state"], row["forced_at"]) for row in rows} == {(D.DELIVERED, None)}


async def test_what_a_receiver_repeats_of_its_address_is_stored_masked(h: Harness) -> None:
    await subscribe(h, url="https://app.example.com/hook?key=opensesame&n=1")
    await at_vendor(h)
    await deliver(h, lambda request: httpx.Response(410, text=f"no {request.url} for opensesame"))
    stored = [await h.rows(table) for table in ("attempt", "subscriber", "event", "delivery")]
    assert "opensesame" not in str(stored)
    assert (await h.rows("attempt"))[0]["response"] == (
        "no https://app.example.com/hook?*** for ***"
    )


# -- lanes


async def test_a_lane_has_no_more_attempts_in_progress_than_its_limit(h: Harness) -> None:
    await subscribe(h, max_in_flight=3)
    for n in range(8):
        await at_vendor(h, task=f"t-{n}")
    stage = h.runtime.assemble(Deliverer)
    first = await stage.take(100)
    assert (len(first), first.full, first.more) == (3, True, False)
    second = await stage.take(100)
    assert (len(second), second.full, second.more) == (0, True, False)
    h.network.answer = lambda _: OK
    await stage.work(first[0])
    assert len(await stage.take(100)) == 1


async def test_an_attempt_holds_its_slot_until_it_is_recorded(h: Harness) -> None:
    """A kill may repeat only what holds a slot.

    A failure may make the lane rest before the next.
    """
    await subscribe(h, max_in_flight=2)
    for n in range(2):
        await at_vendor(h, task=f"t-{n}")
    in_progress: list[int] = []

    class RecordsProgress(Deliverer):
        def _record(self, tx: Tx, attempts: list[Attempted]) -> list[LaneChange | None]:
            in_progress.append(self.scheduler.in_progress)
            return super()._record(tx, attempts)

    stage = h.runtime.assemble(RecordsProgress)
    good, bad = await stage.take(10)
    h.network.answer = lambda _: OK
    await stage.work(good)
    h.network.answer = lambda _: httpx.Response(500)
    await stage.work(bad)
    assert (in_progress, stage.scheduler.in_progress) == ([2, 1], 0)


async def test_the_retries_of_a_subscriber_that_recovers_are_due_at_once_within_its_slots(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_health, "FLUSH", 3)
    monkeypatch.setattr(deliver_stage, "FLUSH", 3)
    count, slots = FAILURES + 2, 4
    await subscribe(h, "job.*", max_in_flight=slots)
    await subscribe(h, "none.*", url="https://other.example.com/")
    for n in range(count):
        await at_vendor(h, task=f"t-{n}")
    stage = h.runtime.assemble(Deliverer)
    h.network.answer = lambda _: httpx.Response(500)
    while await drive(stage):
        continue
    h.clock.advance(100)
    while await drive(stage):
        continue
    tries = {row["id"]: row["tries"] for row in await h.rows(delivery)}
    assert set(tries.values()) == {2}
    h.clock.advance(2 * SPACING)
    h.network.answer = lambda _: OK
    await at_vendor(h, task="t-last")
    (first,) = await stage.take(100)
    await stage.work(first)
    claims = await stage.take(100)
    assert len(claims) == slots, "its concurrency bounds them"
    for claim in claims:
        await stage.work(claim)
    while await drive(stage):
        continue
    assert {row["state"] for row in await h.rows(delivery)} == {D.DELIVERED}
    kinds = await event_types(h)
    assert kinds.count("subscriber.failing") == kinds.count("subscriber.recovered") == 1


async def test_a_receiver_that_recovers_for_moments_uses_up_no_schedule(h: Harness) -> None:
    await subscribe(h, "job.submitted")
    for n in range(FAILURES):
        await at_vendor(h, task=f"bad-{n}")
    bad = [row["event_id"] for row in await h.rows(delivery)]
    stage, began, moments = h.runtime.assemble(Deliverer), h.clock.now(), 50
    h.network.answer = lambda request: httpx.Response(
        500 if request.headers["webhook-id"] in bad else 204
    )
    for n in range(moments):
        while await drive(stage):
            continue
        await at_vendor(h, task=f"good-{n}")
        while await drive(stage):
            continue
        h.clock.advance(90)
    assert (await event_types(h)).count("subscriber.recovered") >= FAILURES
    age = (h.clock.now() - began).total_seconds()
    planned = tries_by(POLICY.schedule, age)
    for row in await h.rows(delivery, delivery.c.event_id.in_(bad)):
        assert row["state"] == D.PENDING
        assert len(POLICY.schedule) < row["tries"] <= planned + (2 * age / SPACING) ** 0.5
        assert seconds_until_due(h, row) <= POLICY.schedule[planned] * 1.2


async def test_a_claimed_retry_keeps_its_claim_when_its_subscriber_recovers(h: Harness) -> None:
    to = await due_delivery(h)
    await deliver(h, httpx.Response(500))
    h.clock.advance(10)
    (claim,) = await h.runtime.assemble(Deliverer).take(10)
    now = h.clock.now()
    assert await h.runtime.store.write(deliver_health.flush, to["id"], now) == 0
    assert (await only_delivery(h))["due_at"] == claim.row["due_at"]


async def test_a_freed_slot_is_used_without_a_tick(h: Harness) -> None:
    """After any result of the attempt before it."""
    await subscribe(h, max_in_flight=1)
    for n in range(5):
        await at_vendor(h, task=f"t-{n}")
    answers, all_asked = [500, 204, 400, 204, 204], asyncio.Event()

    def answered(_: httpx.Request) -> httpx.Response:
        status = answers.pop()
        if not answers:
            all_asked.set()
        return httpx.Response(status)

    h.network.answer = answered
    working = h.runtime.notifier.workers["deliver"] = Worker(
        "deliver", h.runtime.assemble(Deliverer), limit=LIMIT
    )
    working.start()
    working.wake()
    async with asyncio.timeout(5):
        await all_asked.wait()
    await working.stop(5)
    assert len(await h.rows(attempt)) == 5


async def test_a_lane_that_hangs_leaves_room_to_the_others(h: Harness) -> None:
    await subscribe(h, url="https://hangs.example.com/", max_in_flight=2)
    await subscribe(h, url="https://quick.example.com/", max_in_flight=2)
    stage, taken = h.runtime.assemble(Deliverer), Counter[str]()
    for n in range(10):
        await at_vendor(h, task=f"t-{n}")
    h.network.answer = lambda _: OK
    for _ in range(10):
        for claim in await stage.take(100):
            taken[claim.subscriber["shown"]] += 1
            if "quick" in claim.subscriber["shown"]:
                await stage.work(claim)
    assert sorted(taken.values()) == [2, 10]


async def test_a_rate_limit_holds_over_time(h: Harness) -> None:
    await subscribe(h, rate_limit=2.0, max_in_flight=100)
    for n in range(30):
        await at_vendor(h, task=f"t-{n}")
    stage, sent = h.runtime.assemble(Deliverer), 0
    h.network.answer = lambda _: OK
    for _ in range(40):
        for claim in await stage.take(100):
            await stage.work(claim)
            sent += 1
        h.clock.advance(0.25)
    assert 19 <= sent <= 21, "two a second for ten seconds"


async def test_an_unreadable_secret_affects_its_own_lane_only(h: Harness) -> None:
    broken = await subscribe(h, url="https://broken.example.com/")
    await subscribe(h, url="https://fine.example.com/")
    await at_vendor(h)
    await h.run(
        subscriber.update()
        .where(subscriber.c.id == broken["id"])
        .values(address="sealed with a lost key")
    )
    assert await deliver(h, by_host(fine=OK)) == 2
    states = {row["subscriber_id"] == broken["id"]: row["state"] for row in await h.rows(delivery)}
    assert states == {True: D.PENDING, False: D.DELIVERED}
    (row,) = await h.rows(delivery, delivery.c.subscriber_id == broken["id"])
    assert row["last_error"] == "secret_unreadable"


# -- claims


async def test_a_crash_after_sending_sends_again_with_the_same_id(h: Harness) -> None:
    await due_delivery(h)
    stage = h.runtime.assemble(Deliverer)
    (claim,) = await stage.take(10)

    def crashes(_: httpx.Request) -> httpx.Response:
        raise asyncio.CancelledError

    h.network.answer = crashes
    with pytest.raises(asyncio.CancelledError):
        await stage.work(claim)
    h.clock.advance(LEASE - 0.1)
    assert await deliver(h, OK) == 0
    h.clock.advance(0.1)
    assert await deliver(h, OK) == 1
    first, second = h.network.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (await only_delivery(h))["state"] == D.DELIVERED


async def test_a_success_recorded_after_its_lease_still_counts(h: Harness) -> None:
    await due_delivery(h)
    zombies, stage = h.runtime.assemble(Deliverer), h.runtime.assemble(Deliverer)
    (zombie,) = await zombies.take(10)
    claims: list[ClaimedDelivery] = []

    async def late(_: httpx.Request) -> httpx.Response:
        h.clock.advance(LEASE)
        claims.extend(await stage.take(10))
        return OK

    h.network.answer = late
    await zombies.work(zombie)
    (claim,) = claims
    h.network.answer = lambda _: httpx.Response(500)
    await stage.work(claim)
    assert (await only_delivery(h))["state"] == D.DELIVERED


async def test_claims_given_back_are_due_again(h: Harness) -> None:
    await due_delivery(h, max_in_flight=1)
    stage = h.runtime.assemble(Deliverer)
    await stage.give_back(await stage.take(10))
    assert len(await stage.take(10)) == 1
    assert (await only_delivery(h))["tries"] == 0


async def test_a_claim_given_back_after_its_lease_does_not_disturb_the_next_claim(
    h: Harness,
) -> None:
    await due_delivery(h)
    late, stage = h.runtime.assemble(Deliverer), h.runtime.assemble(Deliverer)
    claims = await late.take(10)
    h.clock.advance(LEASE)
    await stage.take(10)
    await late.give_back(claims)
    assert list(await h.runtime.assemble(Deliverer).take(10)) == []


async def test_an_attempt_that_raises_is_recorded_and_frees_its_slot(h: Harness) -> None:
    await due_delivery(h, max_in_flight=1)
    stage = h.runtime.assemble(Deliverer)
    (claim,) = await stage.take(10)

    def bug(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError("a bug")

    h.network.answer = bug
    await stage.work(claim)
    (row,) = await h.rows(delivery)
    assert (row["tries"], row["last_error"]) == (1, "internal_error")
    h.clock.advance(LEASE)
    assert len(await stage.take(10)) == 1
