"""A replay sends what the filter of its subscriber matches at that moment."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.engine import replay
from orchestrator.engine.replay import Replayer
from orchestrator.foundation.states import DeliveryState, EventType, JobState
from tests.harness.engine import at_vendor, report_state, subscribe
from tests.harness.runtime import Harness

SUCCESS = {"data": {"status": "succeeded"}}


async def replayed(h: Harness, **values: Any) -> tuple[int, int]:
    """Run a replay to its end; return its count and how many deliveries it made due."""
    intake = h.runtime.assemble(Replayer)._intake
    row = replay.new(h.runtime.ids, api_key="key", now=h.clock.now(), **values)
    bounded = await h.runtime.store.read(replay.counted, row)
    step = await h.runtime.store.write(replay.begin, intake, bounded)
    assert step.row["state"] == "done"
    return step.row["counted"], step.row["replayed"]


async def pending_types(h: Harness) -> list[str]:
    types = {row["id"]: row["type"] for row in await h.rows(event)}
    rows = await h.rows(delivery, delivery.c.state == DeliveryState.PENDING)
    return [types[row["event_id"]] for row in rows]


async def finished(h: Harness) -> None:
    job = await at_vendor(h)
    await report_state(h, job["id"], JobState.SUCCEEDED)


async def test_missed_events_are_those_that_the_filter_matches(h: Harness) -> None:
    await finished(h)
    to = await subscribe(h, "job.*", filter=SUCCESS)
    assert await replayed(h, subscriber_id=to["id"], missed=True) == (2, 1)
    assert await pending_types(h) == [EventType.JOB_SUCCEEDED]


async def test_dead_deliveries_are_judged_by_the_filter_of_now(h: Harness) -> None:
    to = await subscribe(h, "job.*")
    await finished(h)
    await h.run(sa.update(delivery).values(state="dead", due_at=None, done_at=h.clock.now()))
    await h.run(sa.update(subscriber).values(filter=SUCCESS))
    assert await replayed(h, subscriber_id=to["id"]) == (2, 1)
    assert await pending_types(h) == [EventType.JOB_SUCCEEDED]
    await h.run(sa.update(subscriber).values(filter=None))
    assert await replayed(h, subscriber_id=to["id"]) == (1, 1)
