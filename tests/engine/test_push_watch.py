"""Many overdue pushes at once: a few jobs are asked about, and that decides."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from orchestrator.database.tables import account_state, job
from orchestrator.engine.push_watch import PushWatch
from orchestrator.foundation.states import JobState, Source
from tests.harness.engine import at_vendor, event_types, report_state
from tests.harness.runtime import Harness


async def warmed(h: Harness, live: int) -> PushWatch:
    """Let sixty jobs end by push after 20 to 79 seconds; return the watch over some live ones."""
    for seconds in range(20, 80):
        opened = await at_vendor(h, task=h.runtime.ids("task"))
        h.clock.advance(seconds)
        await report_state(h, opened["id"], JobState.SUCCEEDED, Source.PUSH)
    await h.runtime.learning.run()
    for _ in range(live):
        await at_vendor(h, task=h.runtime.ids("task"))
    return h.runtime.assemble(PushWatch)


async def due(h: Harness) -> int:
    """Return how many jobs are due for a status query."""
    rows = await h.rows("job")
    return sum(row["due_at"] is not None and row["due_at"] <= h.clock.now() for row in rows)


async def pushed_now(h: Harness) -> None:
    """Note a push, as the receiver does."""
    await h.run(sa.update(account_state).values(last_push_at=h.clock.now()))


async def test_when_ten_pushes_are_overdue_five_jobs_are_asked_about(h: Harness) -> None:
    watch = await warmed(h, live=30)
    await pushed_now(h)
    h.clock.advance(10)
    await watch.run()
    assert await due(h) == 0, "nothing was expected so soon"
    h.clock.advance(35)
    await watch.run()
    assert await due(h) == 5
    asked = [row for row in await h.rows("job") if row["due_at"] == h.clock.now()]
    for row in asked[:3]:
        await report_state(h, row["id"], JobState.SUCCEEDED, Source.POLL)
    assert (await h.account())["degraded"]
    assert "account.push_degraded" in await event_types(h)


async def test_a_vendor_that_is_slow_is_asked_again_only_after_twice_the_silence(
    h: Harness,
) -> None:
    watch = await warmed(h, live=30)
    await pushed_now(h)
    h.clock.advance(45)
    await watch.run()
    asked = [row for row in await h.rows("job") if row["due_at"] == h.clock.now()]
    for row in asked:
        await report_state(h, row["id"], JobState.PROCESSING, Source.POLL)
    assert await due(h) == 0
    h.clock.advance(1)
    await watch.run()
    assert await due(h) == 0
    assert "account.push_degraded" not in await event_types(h)
    await pushed_now(h)
    h.clock.advance(6)
    await watch.run()
    assert await due(h) == 0, "a push ends the silence"


async def test_a_few_jobs_or_little_knowledge_are_left_alone(h: Harness) -> None:
    watch = await warmed(h, live=2)
    await pushed_now(h)
    h.clock.advance(50)
    await watch.run()
    assert await due(h) == 0


async def test_jobs_that_hang_are_not_those_that_are_asked_about(h: Harness) -> None:
    watch = await warmed(h, live=5)
    hung = {row["id"] for row in await h.rows("job") if row["due_at"] is not None}
    h.clock.advance(36_000)
    for _ in range(30):
        await at_vendor(h, task=h.runtime.ids("task"))
    far = h.clock.now() + timedelta(days=1)
    await h.run(sa.update(job).where(job.c.due_at.is_not(None)).values(due_at=far))
    await pushed_now(h)
    h.clock.advance(60)
    await watch.run()
    asked = {row["id"] for row in await h.rows("job") if row["due_at"] == h.clock.now()}
    assert len(asked) == 5
    assert not asked & hung
