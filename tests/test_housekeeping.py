"""Rows every account needs, and rows nobody needs any more."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.deliver import Delivering
from orchestrator.fanout import Fact, fan_out
from orchestrator.housekeeping import prepare, retire
from orchestrator.receive import Receiving
from orchestrator.signing import Callback
from orchestrator.states import EventType, JobState, Source
from orchestrator.tables import account_state, attempt, delivery, event, job, push, trace
from tests.engine import at_vendor, drive, subscribe, tell
from tests.house import House

DAY = 86400.0
RETENTION = 30 * DAY
ABOUT_JOBS = (job, event, delivery, attempt, push, trace)


async def ended(h: House) -> dict[str, Any]:
    """Return a job that has run its whole course, with one row of everything about it."""
    row = await at_vendor(h, task=h.rt.ids("job"))
    vendor = h.rt.vendors["main"]
    await Receiving(h.rt).push(vendor, Callback(row["id"], 1), {}, b'{"task_status":"processing"}')
    await h.rt.store.write(h.rt.ledger.note, [(row["id"], "operator", {})], h.clock.now())
    return await tell(h, row["id"], JobState.FAILED)


async def deliver(h: House) -> None:
    await drive(Delivering(h.rt))


async def left(h: House) -> dict[str, int]:
    return {table.name: len(await h.rows(table)) for table in ABOUT_JOBS}


async def test_every_account_has_its_row_once(h: House) -> None:
    await h.run(account_state.update().values(polls=7))
    await h.rt.store.write(prepare, ["main", "new"])
    await h.rt.store.write(prepare, [])
    rows = await h.rows(account_state)
    assert [(row["account"], row["polls"]) for row in rows] == [("main", 7), ("new", 0)]


async def test_a_job_that_ended_long_ago_goes_with_everything_about_it(h: House) -> None:
    await subscribe(h)
    await ended(h)
    await deliver(h)
    h.clock.turn(RETENTION)
    kept = await ended(h)
    await deliver(h)
    h.clock.turn(1)
    both = await left(h)
    assert min(both.values()) >= 2
    await retire(h.rt)
    assert {name: count * 2 for name, count in (await left(h)).items()} == both
    assert [row["id"] for row in await h.rows(job)] == [kept["id"]]


async def test_a_day_less_and_everything_stays(h: House) -> None:
    await ended(h)
    h.clock.turn(RETENTION - 1)
    before = await left(h)
    await retire(h.rt)
    assert await left(h) == before


@pytest.mark.parametrize("state", [JobState.SUBMITTED, JobState.PROCESSING])
async def test_a_live_job_is_never_too_old(h: House, state: JobState) -> None:
    row = await at_vendor(h)
    await tell(h, row["id"], state)
    h.clock.turn(10 * RETENTION)
    await retire(h.rt)
    assert len(await h.rows(job)) == 1


async def test_what_is_still_owed_keeps_its_job(h: House) -> None:
    await subscribe(h)
    await ended(h)
    h.clock.turn(RETENTION + 1)
    await retire(h.rt)
    assert len(await h.rows(job)) == 1
    await deliver(h)
    await retire(h.rt)
    assert await left(h) == dict.fromkeys(await left(h), 0)


async def test_old_notices_about_no_job_go_too(h: House) -> None:
    to = await subscribe(h)
    fact = Fact(EventType.TEST, Source.OPERATOR, {}, only=to["id"])
    await h.rt.store.write(fan_out, h.rt.ids, [fact], h.clock.now())
    await deliver(h)
    h.clock.turn(RETENTION + 1)
    await h.rt.store.write(fan_out, h.rt.ids, [fact], h.clock.now())
    await retire(h.rt)
    assert (len(await h.rows(event)), len(await h.rows(delivery))) == (1, 1)


async def test_more_than_a_batch_goes_in_one_visit(h: House) -> None:
    await ended(h)
    names = [column.name for column in job.columns]
    unique = ("id", "external_task_id", "vendor_task_id")
    copied = ", ".join(f"{name} || n" if name in unique else name for name in names)
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 250)"
    into = f"INSERT INTO job ({', '.join(names)}) {numbers} SELECT {copied} FROM job, c"
    await h.rt.store.write(lambda tx: tx.exec_driver_sql(into) and None)
    h.clock.turn(RETENTION + 1)
    await retire(h.rt)
    assert await h.rows(job) == []
