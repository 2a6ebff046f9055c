"""Jobs of a restored database: what may have been sent since the backup is not sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.database.tables import trace
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState
from orchestrator.jobs.restored import GRACE, Resumed, resume
from tests.harness.engine import (
    at_vendor,
    drive,
    kling_response,
    legacy_task,
    report_state,
    seconds_until_due,
    task_not_found,
)
from tests.harness.runtime import Harness, open_harness

S = JobState
ACCOUNTS: dict[str, dict[str, Any]] = {
    "kling": {"vendor": "kling", "api_key": "k"},
    "dreamto": {"vendor": "dreamto", "api_key": "k", "base_url": "https://dreamto.example"},
}


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ACCOUNTS, database_url=database) as opened:
        yield opened


async def resumed(h: Harness) -> Resumed:
    return await h.runtime.store.write(resume, h.clock.now())


async def test_a_queued_job_that_the_vendor_has_is_adopted_and_not_sent(h: Harness) -> None:
    opened = await h.open("kling")
    assert await resumed(h) == (1, 0)
    h.network.answer = lambda _: kling_response(
        legacy_task("t-1", "processing", task_info={"external_task_id": opened["id"]})
    )
    assert await drive(h.runtime.assemble(Submitter)) == 1
    row = await h.job(opened["id"])
    assert (row["state"], row["vendor_task_id"], row["attempt"]) == (S.PROCESSING, "t-1", 1)
    assert [request.method for request in h.network.requests] == ["GET"]


async def test_a_job_that_has_not_reached_its_start_waits_for_it(h: Harness) -> None:
    start = after(h.clock.now(), 60)
    opened = await h.open("kling", start_after=start, due_at=start)
    assert await resumed(h) == (0, 0)
    row = await h.job(opened["id"])
    assert (row["state"], row["due_at"], row["attempt"]) == (S.QUEUED, start, 0)
    h.clock.advance(61)
    assert await resumed(h) == (1, 0)


async def test_a_queued_job_that_the_vendor_lacks_is_sent_once_after_two_answers_that_count(
    h: Harness,
) -> None:
    opened = await h.open("kling")
    await resumed(h)
    submitter = h.runtime.assemble(Submitter)
    h.network.answer = lambda _: task_not_found()
    for _ in range(2):
        assert await drive(submitter) == 1
        assert await drive(submitter) == 0, "the lookups are spaced"
        h.clock.advance(seconds_until_due(h, await h.job(opened["id"])))
    assert await drive(submitter) == 1
    h.network.answer = lambda _: kling_response(legacy_task("t-2", "submitted"))
    assert await drive(submitter) == 1
    assert (await h.job(opened["id"]))["vendor_task_id"] == "t-2"
    assert [request.method for request in h.network.requests] == ["GET"] * 3 + ["POST"]


async def test_without_a_lookup_nothing_is_sent_and_the_job_waits_for_its_push(h: Harness) -> None:
    opened = await h.open("dreamto")
    await resumed(h)
    submitter = h.runtime.assemble(Submitter)
    assert await drive(submitter) == 1
    h.clock.advance(seconds_until_due(h, await h.job(opened["id"])))
    assert await drive(submitter) == 1
    row = await h.job(opened["id"])
    assert (row["state"], (row["error"] or {})["code"]) == (S.FAILED, "submit_unknown")
    assert h.network.requests == []


async def test_jobs_at_the_vendor_are_due_at_once_and_get_time_to_be_asked_about(
    h: Harness,
) -> None:
    late = await at_vendor(h, "kling")
    final = await report_state(h, (await at_vendor(h, "kling", "t-2"))["id"], S.SUCCEEDED)
    queued = await h.open("kling")
    h.clock.advance(100_000)
    now = h.clock.now()
    assert await resumed(h) == (1, 1)
    # Its caller no longer waits: it expires.
    assert (await h.job(queued["id"]))["deadline_at"] == queued["deadline_at"]
    assert await resumed(h) == (0, 1)
    row = await h.job(late["id"])
    assert (row["due_at"], row["deadline_at"]) == (now, after(now, GRACE))
    # A worker that has an older claim is fenced off.
    assert row["lease"] > late["lease"]
    assert await h.job(final["id"]) == final


async def test_the_history_of_a_job_has_the_restore(h: Harness) -> None:
    opened = await h.open("kling")
    await resumed(h)
    (entry,) = await h.rows(trace, trace.c.job_id == opened["id"])
    assert (entry["kind"], entry["detail"]["action"]) == ("operator", "restore")


@pytest.mark.parametrize("account", ["kling", "dreamto"])
async def test_answers_from_before_the_restore_prove_nothing(h: Harness, account: str) -> None:
    """The backup has a submission in doubt; since then it may have been sent again."""
    opened = await h.open(account)
    submitter = h.runtime.assemble(Submitter)
    h.network.answer = lambda _: httpx.Response(504)
    await drive(submitter)
    h.network.answer = lambda _: task_not_found()
    if account == "kling":
        h.clock.advance(seconds_until_due(h, await h.job(opened["id"])))
        await drive(submitter)
    row = await h.job(opened["id"])
    assert (row["state"], row["misses"]) == (S.SUBMITTING, 1)
    await resumed(h)
    h.network.requests.clear()
    assert await drive(submitter) == 1
    row = await h.job(opened["id"])
    assert row["state"] == S.SUBMITTING, "its first answer does not count"
    assert row["misses"] == (0 if account == "kling" else 1)
    assert seconds_until_due(h, row) >= (10 if account == "kling" else 600)
