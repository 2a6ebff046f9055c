"""Deliveries follow the retry policy of their subscriber, or else that of the service."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.database.tables import attempt, delivery, subscriber
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.deliver_scheduler import LEASE_MARGIN
from orchestrator.foundation.states import DeliveryState, SubscriberState
from tests.harness.engine import at_vendor, drive, seconds_until_due, subscribe
from tests.harness.runtime import Harness, open_harness

D = DeliveryState
SERVICE: Final = {"schedule": ["10s", 20], "final_statuses": [404, 410]}
RETRY_AFTER: Final = httpx.Response(503, headers={"retry-after": "90"})
#: By the host of a subscriber: its own policy, its answer, the waits between its attempts, and
#: whether the subscriber stays active.
CASES: Final[
    Mapping[str, tuple[dict[str, Any] | None, int | httpx.Response, list[float], bool]]
] = {
    "service": (None, 500, [10, 20], True),
    "final": (None, 404, [], True),
    "gone": (None, 410, [], False),
    "longer": ({"schedule": ["1s", "2s", "1m", "2m", "3m"]}, 500, [1, 2, 60, 120, 180], True),
    "short": ({"schedule": ["1s", "2s", "1m", "2m", "3m"]}, 401, [1, 2, 60], True),
    "forgiving": ({"final_statuses": []}, 404, [10, 20], True),
    "strict": ({"final_statuses": [500, 503]}, 503, [], True),
    "resting": ({"schedule": [1.5]}, RETRY_AFTER, [90], True),
    "success": ({"final_statuses": [400]}, 204, [], True),
}


def own(retry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a policy as the API stores it."""
    names = ("schedule", "deadline", "final_statuses")
    return None if retry is None else {name: retry.get(name) for name in names}


async def test_a_subscriber_is_retried_by_its_own_policy_or_that_of_the_service(
    tmp_path: Path, database: str
) -> None:
    async with open_harness(tmp_path, database_url=database, delivery=SERVICE) as h:
        lanes = {
            host: await subscribe(
                h, "job.submitted", url=f"https://{host}.example/hook", retry=own(retry)
            )
            for host, (retry, *_) in CASES.items()
        }
        await at_vendor(h)

        def answer(request: httpx.Request) -> httpx.Response:
            given = CASES[request.url.host.partition(".")[0]][1]
            return given if isinstance(given, httpx.Response) else httpx.Response(given)

        h.network.answer = answer
        stage = h.runtime.assemble(Deliverer)
        while await drive(stage):
            pending = await h.rows(delivery, delivery.c.due_at.is_not(None))
            h.clock.advance(min((seconds_until_due(h, row) for row in pending), default=0))
        for host, (_, given, waits, is_active) in CASES.items():
            (row,) = await h.rows(delivery, delivery.c.subscriber_id == lanes[host]["id"])
            assert row["state"] == (D.DELIVERED if given == 204 else D.DEAD), host
            made = await attempts_at(h, row["id"])
            there = [(b - a).total_seconds() for a, b in itertools.pairwise(made)]
            assert len(there) == len(waits), host
            assert all(low <= wait <= low * 1.2 for low, wait in zip(waits, there, strict=True))
            is_final = host in ("final", "strict")
            assert (row["last_error"] == f"final_status_{given}") is is_final, host
            (to,) = await h.rows(subscriber, subscriber.c.id == lanes[host]["id"])
            assert (to["state"] == SubscriberState.ACTIVE) is is_active, host


async def attempts_at(h: Harness, delivery_id: str) -> list[datetime]:
    found = await h.rows(attempt, attempt.c.delivery_id == delivery_id)
    return sorted(row["at"] for row in found)


async def test_a_change_of_the_policy_counts_from_the_next_attempt(h: Harness) -> None:
    to = await subscribe(h, "job.submitted", retry=own({"schedule": ["1s", "7d"]}))
    await at_vendor(h)
    h.network.answer = lambda _: httpx.Response(500)
    await drive(h.runtime.assemble(Deliverer))
    h.clock.advance(2)
    changed = sa.update(subscriber).where(subscriber.c.id == to["id"])
    await h.run(changed.values(retry=own({"schedule": ["1s", "1m"]})))
    await drive(h.runtime.assemble(Deliverer))
    (row,) = await h.rows(delivery)
    assert 60 <= seconds_until_due(h, row) <= 72


@pytest.mark.parametrize("by", ["the service", "the subscriber"])
async def test_an_attempt_is_cut_off_at_its_deadline(tmp_path: Path, by: str) -> None:
    """That of the subscriber is stored shorter than the API allows: the test waits for it."""
    service = {"deadline": 1 if by == "the service" else 100}
    retry = None if by == "the service" else own({"deadline": 0.05})
    async with open_harness(tmp_path, delivery=service) as h:
        await subscribe(h, "job.submitted", retry=retry)
        await at_vendor(h)

        async def silence(_: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            return httpx.Response(204)

        h.network.answer = silence
        await drive(h.runtime.assemble(Deliverer))
        (row,) = await h.rows(delivery)
        assert (row["state"], row["last_error"]) == (D.PENDING, "timeout")


async def test_a_claim_covers_the_longest_deadline_that_is_claimed_with_it(h: Harness) -> None:
    patient = await subscribe(h, "job.submitted", retry=own({"deadline": 100}))
    await subscribe(h, "job.submitted")
    await at_vendor(h)
    stage = h.runtime.assemble(Deliverer)
    claims = await stage.take(10)
    leases = {seconds_until_due(h, dict(claim.row)) for claim in claims}
    assert (len(claims), leases) == (2, {100 + LEASE_MARGIN})
    h.clock.advance(LEASE_MARGIN + 0.1)
    sent = defaultdict[bool, int](int)
    for claim in claims:
        before = len(h.network.requests)
        await stage.work(claim)
        sent[claim.subscriber["id"] == patient["id"]] += len(h.network.requests) - before
    # What is left of the claim covers the shorter deadline alone.
    assert sent == {True: 0, False: 1}
