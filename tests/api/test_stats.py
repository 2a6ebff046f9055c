"""Statistics over HTTP: the history of an account, and of the whole service with its counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.api import stats
from orchestrator.database.tables import job
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import history
from orchestrator.jobs.ledger import Note
from tests.api.test_support import TWO, Caller, calling, submitted
from tests.harness.engine import report_state

pytestmark = pytest.mark.usefixtures("everywhere")


async def polled(api: Caller, job_id: str, times: int) -> None:
    """Note status queries about a job."""
    notes = [Note(job_id, "poll", {"outcome": "pending"})] * times
    await api.runtime.store.write(api.runtime.ledger.note, notes, api.clock.now())


async def test_a_history_counts_the_jobs_of_an_account_over_time(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        early = await submitted(api, account="main")
        await submitted(api, account="dream")
        await polled(api, early["id"], 3)
        api.clock.advance(40)
        await api.finish(early["id"])
        await api.run(sa.update(job).values(submitted_at=job.c.created_at))
        api.clock.advance(3 * 3600)
        late = [(await submitted(api, account="main"))["id"] for _ in range(3)]
        await api.finish(late[0], JobState.FAILED)
        await report_state(api, late[1], JobState.SUCCEEDED, source=Source.POLL)
        shown = await api.get("/v1/accounts/main/history")
        assert (shown["object"], shown["account"], shown["bucket_seconds"]) == (
            "account_history",
            "main",
            1800,
        )
        assert len(shown["buckets"]) == 49
        assert shown["totals"] == {
            "submitted": 4, "succeeded": 2, "failed": 1, "canceled": 0, "expired": 0, "live": 1,
            "by_push": 2, "by_poll": 1, "missed": 1, "polls": 3,
        }  # fmt: skip
        filled = [bucket for bucket in shown["buckets"] if bucket["submitted"]]
        assert [(one["submitted"], one["polls"], one["estimated"]) for one in filled] == [
            (1, 3, False),
            (3, 0, False),
        ]
        took = shown["latency"]
        assert (took["samples"], took["since"]) == (2, early["created_at"])
        assert took["p50"] == took["p99"] == pytest.approx(40, abs=1)
        assert sum(one["count"] for one in took["counts"]) == 2
        (later,) = [
            bucket
            for bucket in (await api.get("/v1/accounts/main/history?hours=1"))["buckets"]
            if bucket["submitted"]
        ]
        assert later["submitted"] == 3
        await api.get("/v1/accounts/other/history", 404)
        for hours in ("0", "169", "1.5", "x"):
            await api.get(f"/v1/accounts/main/history?hours={hours}", 422)


async def test_a_bucket_with_more_jobs_than_are_read_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        start = int(api.clock.now().timestamp() // 1800 * 1800 + 1800)
        api.clock.advance(start - api.clock.now().timestamp())
        for number in range(60):
            await api.open(state="failed" if number % 5 == 0 else "succeeded")
            api.clock.advance(20)
        bucket = (await api.get("/v1/accounts/main/history"))["buckets"][-1]
        found = bucket["estimated"], bucket["submitted"], bucket["failed"]
        assert found == (False, 60, 12), "all of a burst are read"
        monkeypatch.setattr(history, "ROWS", 40)
        bucket = (await api.get("/v1/accounts/main/history"))["buckets"][-1]
        assert bucket["estimated"]
        assert bucket["submitted"] == pytest.approx(60, abs=8)
        assert bucket["failed"] == pytest.approx(12, abs=3)


async def test_statistics_count_what_is_stored_and_the_ages_of_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        empty = await api.get("/v1/stats")
        assert set(empty["ages"].values()) == {None}
        assert empty["rates"] == {"submitted": 0, "ended": 0, "push_share": None}
        api.clock.advance(60)
        await api.post("/v1/subscribers", 201, {"url": "https://my.app/x", "types": ["job.*"]})
        ids = [(await submitted(api))["id"] for _ in range(5)]
        await api.finish(ids[0])
        await api.finish(ids[1], JobState.FAILED)
        await report_state(api, ids[2], JobState.SUBMITTED, vendor_task_id="t")
        api.clock.advance(30)
        shown = await api.get("/v1/stats")
        counts = {status: count for status, count in shown["jobs"].items() if count}
        assert counts == {"queued": 2, "submitted": 1, "succeeded": 1, "failed": 1}
        assert set(shown["jobs"]) == set(JobState)
        assert shown["deliveries"] == {"pending": 3, "held": 0, "dead": 0}
        ages = shown["ages"]
        assert ages["submitting"] is None
        for age in (ages["queued"], ages["at_vendor"], ages["delivery"]):
            assert age == pytest.approx(30, abs=5)
        assert shown["rates"] == {"submitted": 1, "ended": 0.4, "push_share": 1}
        assert shown["totals"]["submitted"] == 5
        monkeypatch.setattr(stats.Statistics, "_read", None)
        assert await api.get("/v1/stats") == shown, "it is kept for some seconds"


async def test_old_statistics_are_shown_while_new_ones_are_made(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        assert (await api.get("/v1/stats"))["jobs"]["queued"] == 0
        await submitted(api)
        api.clock.advance(1)
        assert (await api.get("/v1/stats"))["jobs"]["queued"] == 0, "they are fresh"
        api.clock.advance(4)
        assert (await api.get("/v1/stats"))["jobs"]["queued"] == 0, "nobody waits"
        for _ in range(500):
            if (await api.get("/v1/stats"))["jobs"]["queued"]:
                break
            await asyncio.sleep(0.01)
        await submitted(api)
        api.clock.advance(60)
        assert (await api.get("/v1/stats"))["jobs"]["queued"] == 2, "too old to be shown"
