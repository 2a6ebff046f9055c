"""Latencies and lost pushes are learned from the ends of jobs, kept, and used for queries."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.tables import account_state, latency
from orchestrator.database.tables import job as job_table
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.latency import BOUNDS
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.query_economy import MISSED_IN_A_ROW, RELIABLE, STOPPED
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Output, Report
from tests.harness.engine import apply_report, at_vendor, report_state
from tests.harness.runtime import Harness


async def ends(h: Harness, seconds: float, source: Source = Source.PUSH, count: int = 1) -> None:
    """Let jobs succeed some seconds after their submission."""
    ids = [(await at_vendor(h, task=h.runtime.ids("task")))["id"] for _ in range(count)]
    h.clock.advance(seconds)
    for job_id in ids:
        await finish(h, job_id, source)


async def finish(h: Harness, job_id: str, source: Source = Source.PUSH) -> None:
    await report_state(h, job_id, JobState.SUCCEEDED, source)


async def stored(h: Harness) -> dict[str, Any]:
    await h.runtime.learning.run()
    (row,) = await h.rows(latency)
    return row


async def test_what_was_learned_is_stored_added_up_and_read_by_another_process(h: Harness) -> None:
    await ends(h, 60, count=3)
    await ends(h, 61, Source.POLL)
    h.runtime.learning.asked([await h.job((await at_vendor(h))["id"])])
    row = await stored(h)
    assert (row["pushed"], row["lost"], row["asked"]) == (3, 1, 1)
    await ends(h, 60, count=20)
    assert (await stored(h))["pushed"] == pytest.approx(23, rel=0.01)
    other = Learning(h.runtime.store, h.runtime.vendors, h.clock)
    await other.run()
    assert other.learned.latencies.keys() == h.runtime.learning.learned.latencies.keys()
    (found,) = other.learned.latencies.values()
    assert found.samples == pytest.approx(24, rel=0.01)


async def test_the_next_query_is_due_when_it_is_worth_it(h: Harness) -> None:
    poll = h.runtime.vendors["main"].account.poll
    first = await at_vendor(h, task="t-0")
    assert due(h, first) == poll.first_after, "too little is known"
    await ends(h, 20, count=int(RELIABLE) + 40)
    await h.runtime.learning.run()
    job = await at_vendor(h, task="t-1")
    learned = due(h, job)
    assert 17 < learned < 30
    h.clock.advance(learned)
    asked = await report_state(h, job["id"], JobState.PROCESSING, Source.POLL)
    assert due(h, asked) >= 5, "it goes on at the pace of what is left"
    assert asked["alive_at"] == h.clock.now()


async def test_where_pushes_have_stopped_it_asks_sooner(h: Harness) -> None:
    for seconds in range(20, 80):
        await ends(h, seconds)
    await h.runtime.learning.run()
    before = due(h, await at_vendor(h, task="t-1"))
    await h.run(sa.update(account_state).values(degraded=True))
    after = due(h, await at_vendor(h, task="t-2"))
    assert after < before / 2
    learned = h.runtime.learning.learned
    row = await at_vendor(h, task="t-3")
    expected = learned.expected(row, h.runtime.vendors["main"], degraded=True)
    assert expected is not None
    assert expected.loss == STOPPED


async def test_a_push_after_a_query_that_was_faster_is_no_loss(h: Harness) -> None:
    job = await at_vendor(h)
    h.clock.advance(30)
    await finish(h, job["id"], Source.POLL)
    h.clock.advance(2)
    h.runtime.learning.pushed_late(await h.job(job["id"]))
    row = await stored(h)
    assert (row["pushed"], row["lost"]) == (1, 0)
    h.clock.advance(3600)
    h.runtime.learning.pushed_late(await h.job(job["id"]))
    assert (await stored(h))["pushed"] == pytest.approx(1, rel=0.05)


async def test_losses_while_pushes_have_stopped_are_not_those_of_usual_days(h: Harness) -> None:
    await ends(h, 30, Source.POLL)
    await h.run(sa.update(account_state).values(degraded=True))
    await stored(h)
    await ends(h, 30, Source.POLL, count=50)
    row = await stored(h)
    assert row["lost"] == pytest.approx(1, rel=0.01)
    assert sum(row["counts"]) == pytest.approx(51, rel=0.01)


async def test_an_end_that_a_query_found_lies_after_the_last_report(h: Harness) -> None:
    job = await at_vendor(h)
    h.clock.advance(40)
    await report_state(h, job["id"], JobState.PROCESSING, Source.POLL)
    h.clock.advance(20)
    await finish(h, job["id"], Source.POLL)
    counts = (await stored(h))["counts"]
    before = sum(count for bound, count in zip(BOUNDS, counts, strict=True) if bound <= 39)
    beyond = sum(count for bound, count in zip(BOUNDS, counts, strict=True) if bound > 72)
    assert before == beyond == 0
    assert sum(counts) == pytest.approx(1)


async def test_repeats_of_a_late_push_count_once(h: Harness) -> None:
    await ends(h, 30, Source.POLL, count=5)
    job = await at_vendor(h)
    h.clock.advance(30)
    await finish(h, job["id"], Source.POLL)
    for _ in range(4):
        h.runtime.learning.pushed_late(await h.job(job["id"]))
    row = await stored(h)
    assert (row["pushed"], row["lost"]) == (1, 5)


async def test_a_row_that_cannot_be_read_is_replaced_and_stops_nothing(h: Harness) -> None:
    await ends(h, 30, count=30)
    await stored(h)
    for counts in ([1.0] * 48, [float("1e999")] * 64, [-1.0] * 64, ["x"] * 64, []):
        await h.run(sa.update(latency).values(counts=counts))
        await ends(h, 30, count=2)
        assert sum((await stored(h))["counts"]) == pytest.approx(2)


async def test_what_was_learned_waits_for_the_database(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends(h, 30, count=3)

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(h.runtime.store, "write", away)
        with pytest.raises(Unavailable):
            await h.runtime.learning.run()
    assert (await stored(h))["pushed"] == 3


async def test_a_write_whose_confirmation_was_lost_is_counted_once(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ends(h, 30, count=3)
    write = h.runtime.store.write

    async def unconfirmed(*args: Any) -> None:
        await write(*args)
        raise Unavailable("the connection was lost")

    with monkeypatch.context() as patched:
        patched.setattr(h.runtime.store, "write", unconfirmed)
        with pytest.raises(Unavailable):
            await h.runtime.learning.run()
    await ends(h, 30)
    assert (await stored(h))["pushed"] == 3
    assert (await stored(h))["pushed"] == pytest.approx(4, rel=0.01)
    await ends(h, 30, count=3)
    assert (await stored(h))["pushed"] == pytest.approx(7, rel=0.01)


async def test_an_end_that_is_applied_with_other_reports_counts_once(h: Harness) -> None:
    job = await at_vendor(h)
    h.clock.advance(30)
    reports = [
        ReportEvent(job["id"], Report(state, videos=(Output("https://v.example/1"),)), Source.PUSH)
        for state in (JobState.PROCESSING, JobState.SUCCEEDED)
    ]
    h.runtime.notifier.announce(await h.runtime.store.write(h.runtime.ledger.apply, reports))
    row = await stored(h)
    assert (sum(row["counts"]), row["pushed"]) == (1, 1)


async def test_a_verdict_of_ours_is_no_latency_and_no_lost_push(h: Harness) -> None:
    for number in range(MISSED_IN_A_ROW):
        job = await at_vendor(h, task=f"lost-{number}")
        h.clock.advance(700)
        await h.run(sa.update(job_table).values(claimed_by=1).where(job_table.c.id == job["id"]))
        gone = Report(JobState.FAILED, message="the vendor knows no such task")
        verdict = ReportEvent(job["id"], gone, Source.POLL, lease=job["lease"])
        results = await h.runtime.store.write(h.runtime.ledger.apply, [verdict])
        h.runtime.notifier.announce(results)
        assert results[0].moved is JobState.FAILED
    job = await at_vendor(h, task="without output")
    for wait in (30, 301):
        h.clock.advance(wait)
        without = Report(JobState.SUCCEEDED, "succeed", vendor_task_id="without output")
        await apply_report(h, ReportEvent(job["id"], without, Source.POLL))
    assert (await h.job(job["id"]))["state"] == JobState.FAILED
    row = await stored(h)
    assert (sum(row["counts"]), row["pushed"], row["lost"]) == (0, 0, 0)
    assert row["fixed"] > 0, "queries were needed all the same"
    assert not (await h.account())["degraded"]


async def test_models_beyond_two_hundred_share_a_row_and_old_rows_are_deleted(h: Harness) -> None:
    job = await at_vendor(h)
    h.runtime.learning.asked([{**job, "model": f"m{n}"} for n in range(300)])
    await h.runtime.learning.run()
    assert len(await h.rows(latency)) == 201
    h.runtime.learning.asked([{**job, "model": f"n{n}"} for n in range(10)])
    await h.runtime.learning.run()
    assert len(await h.rows(latency)) == 201
    h.clock.advance(15 * 86_400)
    h.runtime.learning.asked([job])
    assert (await stored(h))["model"] == "other"
    h.runtime.learning.asked([job])
    await h.runtime.learning.run()
    assert len(await h.rows(latency)) == 2, "old models make room"


async def test_a_job_is_asked_about_once_before_its_deadline(h: Harness) -> None:
    for seconds in range(560, 620):
        await ends(h, seconds)
    await h.runtime.learning.run()
    soon = after(h.clock.now(), 500)
    job = await at_vendor(h, task="t-1", deadline_at=soon)
    assert job["due_at"] == after(soon, -10)
    h.clock.advance(490)
    asked = await report_state(h, job["id"], JobState.PROCESSING, Source.POLL)
    assert asked["due_at"] is not None
    assert due(h, asked) >= 5


async def test_an_output_that_is_missing_is_asked_for_at_fixed_intervals(h: Harness) -> None:
    for seconds in range(560, 620):
        await ends(h, seconds)
    await h.runtime.learning.run()
    job = await at_vendor(h, task="t-1")
    h.clock.advance(200)
    for gap in (15, 22.5, 33.75):
        without = Report(JobState.SUCCEEDED, "succeed", vendor_task_id="t-1")
        await apply_report(h, ReportEvent(job["id"], without, Source.POLL))
        assert due(h, await h.job(job["id"])) == pytest.approx(gap)
        h.clock.advance(gap)


async def test_the_fixed_policy_learns_and_asks_as_ever(h: Harness) -> None:
    vendor = h.runtime.vendors["main"]
    fixed = vendor.account.poll.model_copy(update={"policy": "fixed"})
    vendor.account = vendor.account.model_copy(update={"poll": fixed}).named("main")
    await ends(h, 20, count=60)
    await h.runtime.learning.run()
    assert due(h, await at_vendor(h, task="t-1")) == fixed.first_after
    assert h.runtime.learning.learned.latencies


def due(h: Harness, row: JobRow) -> float:
    """Return in how many seconds a job is due."""
    assert row["due_at"] is not None
    return (row["due_at"] - h.clock.now()).total_seconds()
