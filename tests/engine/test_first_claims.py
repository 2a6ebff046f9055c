"""A push that finds nothing left to deliver claims the delivery that it creates."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine import receive_storage
from orchestrator.engine.deliver import LIMIT, Deliverer
from orchestrator.engine.deliver_scheduler import ClaimedDelivery
from orchestrator.engine.receive import Receiver
from orchestrator.engine.worker import Claimed, Worker
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.states import DeliveryState
from tests.harness.api_caller import eventually, until
from tests.harness.engine import LEASE, at_vendor, kling_response, legacy_task, subscribe
from tests.harness.runtime import Harness, open_harness

DONE = "job.succeeded"


class Delivering:
    """The stage at work in a process."""

    def __init__(self, h: Harness) -> None:
        self.h = h
        self.stage = h.runtime.assemble(Deliverer)
        self.receiver = h.runtime.assemble(Receiver)
        self.worker = Worker("deliver", self.stage, limit=LIMIT)
        #: How often the stage looked for deliveries, and those that it claimed itself.
        self.looks = 0
        self.claimed: list[str] = []
        self._take = self.stage.take
        self.stage.take = self._counted  # type: ignore[method-assign]

    async def _counted(self, room: int) -> Claimed[ClaimedDelivery]:
        self.looks += 1
        claims = await self._take(room)
        self.claimed += [claim.row["id"] for claim in claims]
        return claims

    async def start(self) -> None:
        """Start, and return when the first look has found nothing."""
        self.h.runtime.notifier.workers["deliver"] = self.worker
        self.worker.start()
        self.worker.wake()
        await until(lambda: self.worker.is_idle, "the stage is idle")

    async def push(self, job: JobRow) -> None:
        """Push the success of a job."""
        vendor = self.h.runtime.vendors[job["account"]]
        body = json.loads(kling_response(legacy_task(job["vendor_task_id"], "succeed")).content)
        await self.receiver.push(
            vendor, Callback(job["id"], 1), {}, json.dumps(body["data"]).encode()
        )

    async def delivered(self, count: int) -> list[dict[str, Any]]:
        """Return so many deliveries once each has had its attempt recorded."""

        async def rows() -> list[dict[str, Any]] | None:
            found = await self.h.rows(delivery, delivery.c.state == DeliveryState.DELIVERED)
            return found if len(found) >= count else None

        return await eventually(rows, f"{count} deliveries")


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database) as opened:
        yield opened


@pytest.fixture
async def delivering(h: Harness) -> AsyncIterator[Delivering]:
    made = Delivering(h)
    yield made
    await made.worker.stop(5)


async def being_saved(h: Harness) -> None:
    """Return while a push is being saved that claims what it creates."""
    async with asyncio.timeout(5):
        while not h.runtime.first_claims.claiming.locked():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_delivery_is_claimed_with_its_push(h: Harness, delivering: Delivering) -> None:
    await subscribe(h, DONE)
    job = await at_vendor(h)
    await delivering.start()
    looks = delivering.looks
    await delivering.push(job)
    (row,) = await delivering.delivered(1)
    assert delivering.looks == looks
    assert (row["lease"], row["tries"], row["claimed_by"]) == (1, 1, None)
    (sent,) = h.network.requests
    assert json.loads(sent.content)["type"] == DONE
    (made,) = await h.rows(attempt)
    assert (made["n"], made["status"]) == (1, 200)


async def test_each_subscriber_of_an_event_is_claimed(h: Harness, delivering: Delivering) -> None:
    for n in range(3):
        await subscribe(h, DONE, url=f"https://{n}.example.com/")
    job = await at_vendor(h)
    await delivering.start()
    await delivering.push(job)
    await delivering.delivered(3)
    assert delivering.claimed == []
    assert {request.url.host for request in h.network.requests} == {
        "0.example.com", "1.example.com", "2.example.com",
    }  # fmt: skip


async def test_the_claim_has_the_lease_of_its_subscriber(
    h: Harness, delivering: Delivering
) -> None:
    await subscribe(h, DONE)
    job = await at_vendor(h)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        asked.set()
        await answer.wait()
        return httpx.Response(200)

    h.network.answer = slow
    await delivering.start()
    await delivering.push(job)
    await asked.wait()
    (row,) = await h.rows(delivery)
    assert (row["due_at"] - h.clock.now()).total_seconds() == LEASE
    assert row["claimed_by"] == h.runtime.store.membership.number
    answer.set()
    await delivering.delivered(1)


@pytest.mark.parametrize("values", [{"ordered": True}, {"rate_limit": 5.0}])
async def test_what_has_rules_of_its_own_is_left_to_the_stage(
    h: Harness, delivering: Delivering, values: dict[str, Any]
) -> None:
    await subscribe(h, DONE, **values)
    job = await at_vendor(h)
    await delivering.start()
    await delivering.push(job)
    (row,) = await delivering.delivered(1)
    assert delivering.claimed == [row["id"]]


async def test_a_callback_url_is_left_to_the_stage(h: Harness, delivering: Delivering) -> None:
    url = "https://caller.example/done"
    lane = await h.runtime.store.write(
        callback_lane, h.runtime.ids, h.runtime.keys, url, h.clock.now()
    )
    job = await at_vendor(h, callback_url=url, callback_lane=lane)
    await delivering.start()
    await delivering.push(job)
    (row,) = await delivering.delivered(1)
    assert delivering.claimed == [row["id"]]


async def test_a_full_lane_keeps_its_limit(h: Harness, delivering: Delivering) -> None:
    await subscribe(h, DONE, max_in_flight=1)
    jobs = [await at_vendor(h, task=f"t-{n}") for n in range(3)]
    under_way, most, answer = 0, 0, asyncio.Event()

    async def slow(_: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await answer.wait()
        under_way -= 1
        return httpx.Response(200)

    h.network.answer = slow
    await delivering.start()
    await delivering.push(jobs[0])
    await until(lambda: under_way, "the first is under way")
    await asyncio.gather(*(delivering.push(job) for job in jobs[1:]))
    answer.set()
    await delivering.delivered(3)
    assert most == 1


async def test_a_push_that_fails_claims_nothing(
    h: Harness, delivering: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribe(h, DONE)
    job = await at_vendor(h)
    await delivering.start()

    def broken(*_: object) -> None:
        raise LookupError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(receive_storage, "store", broken)
        with pytest.raises(LookupError):
            await delivering.push(job)
    assert delivering.worker.busy == 0
    assert await h.rows(delivery) == []
    await delivering.push(job)
    await delivering.delivered(1)
    assert len(h.network.requests) == 1


async def test_a_unit_that_runs_again_is_delivered_once(
    h: Harness, delivering: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pushes share a transaction; the whole fails, and then each is done by itself."""
    await subscribe(h, DONE)
    jobs = [await at_vendor(h, task=f"t-{n}") for n in range(2)]
    await delivering.start()
    store = receive_storage.store

    def no_batches(tx: Tx, rows: Any, stored: Any) -> None:
        store(tx, rows, stored)
        if len(rows) > 1:
            raise LookupError("no batches")

    monkeypatch.setattr(receive_storage, "store", no_batches)
    await asyncio.gather(*(delivering.push(job) for job in jobs))
    await delivering.delivered(2)
    ids = [request.headers["webhook-id"] for request in h.network.requests]
    assert len(ids) == len({*ids}) == 2


async def test_a_sender_that_leaves_ends_no_claim(h: Harness, delivering: Delivering) -> None:
    await subscribe(h, DONE)
    job = await at_vendor(h)
    await delivering.start()
    pushing = asyncio.create_task(delivering.push(job))
    await being_saved(h)
    pushing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pushing
    await delivering.delivered(1)
    assert delivering.claimed == []


async def test_what_is_claimed_during_a_stop_is_given_back(
    h: Harness, delivering: Delivering
) -> None:
    await subscribe(h, DONE)
    job = await at_vendor(h)
    await delivering.start()
    pushing = asyncio.create_task(delivering.push(job))
    await being_saved(h)
    stopping = asyncio.create_task(delivering.worker.stop(5))
    await asyncio.gather(pushing, stopping)

    async def is_due() -> bool:
        (row,) = await h.rows(delivery)
        return row["due_at"] == h.clock.now() and row["claimed_by"] is None

    await eventually(is_due, "another process may deliver it at once")
    assert h.network.requests == []


async def test_a_backlog_is_not_overtaken(h: Harness, delivering: Delivering) -> None:
    """While a lane has more than it may have in progress, the stage chooses: the oldest first."""
    await subscribe(h, DONE, max_in_flight=1)
    jobs = [await at_vendor(h, task=f"t-{n}") for n in range(4)]
    for job in jobs[:3]:
        await delivering.push(job)
        h.clock.advance(1)
    assert not h.runtime.first_claims.possible
    h.runtime.notifier.workers["deliver"] = delivering.worker
    delivering.worker.start()
    delivering.worker.wake()
    await until(lambda: h.network.requests, "the first is under way")
    await delivering.push(jobs[3])
    await delivering.delivered(4)
    sent = [json.loads(request.content)["data"]["id"] for request in h.network.requests]
    assert sent == [job["id"] for job in jobs]


async def test_a_claim_whose_commit_is_in_doubt_is_released(
    h: Harness, delivering: Delivering
) -> None:
    """The push was committed and not confirmed: what is sent again publishes nothing."""
    await subscribe(h, DONE)
    job = await at_vendor(h)
    await delivering.start()
    save = delivering.receiver._save

    async def unconfirmed(received: Any) -> None:
        await save(received)
        raise Unavailable("no answer")

    delivering.receiver._save = unconfirmed  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await delivering.push(job)
    delivering.receiver._save = save
    await delivering.push(job)
    (row,) = await delivering.delivered(1)
    assert delivering.claimed == [row["id"]]
    assert len(h.network.requests) == 1


async def test_a_push_that_waits_for_others_holds_up_no_delivery(
    h: Harness, delivering: Delivering
) -> None:
    await subscribe(h, DONE)
    job = await at_vendor(h)
    await delivering.start()
    go_on, save = asyncio.Event(), delivering.receiver._save

    async def slow(received: Any) -> Any:
        await go_on.wait()
        return await save(received)

    delivering.receiver._save = slow  # type: ignore[assignment]
    pushing = asyncio.create_task(delivering.push(job))
    await being_saved(h)
    looks = delivering.looks
    delivering.worker.wake()
    await until(lambda: delivering.looks > looks and not delivering.worker._full, "it has looked")
    go_on.set()
    await pushing
    (row,) = await delivering.delivered(1)
    assert delivering.claimed == [row["id"]], "its claim was revoked"
