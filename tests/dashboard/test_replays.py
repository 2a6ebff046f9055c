"""The pages of replays: counted before they begin, followed, stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.tables import delivery
from orchestrator.foundation.states import JobState
from tests.api.test_support import finished_job, subscribed
from tests.harness.readers import Dashboard, dashboard

HOSTILE = "<script>alert(1)</script>"
EN = catalogue("en")


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    """Three deliveries of one subscriber, all of them dead."""
    async with dashboard(tmp_path) as found:
        await subscribed(found.api)
        for _ in range(3):
            await finished_job(found.api)
        await found.api.run(sa.update(delivery).values(state="dead", due_at=None))
        yield found


async def states(pages: Dashboard) -> list[str]:
    """Return the states of all deliveries."""
    return [row["state"] for row in await pages.api.rows("delivery")]


async def test_a_preview_counts_and_changes_nothing(pages: Dashboard) -> None:
    (receiver,) = (await pages.api.get("/v1/subscribers"))["data"]
    (newest, *_) = (await pages.api.get("/v1/deliveries"))["data"]
    async with pages.reader(Scope.WRITE) as reader:
        for query, count in (
            ("", 3),
            (f"?subscriber={receiver['id']}&status=dead", 3),
            (f"?event={newest['event']}", 1),
            ("?types=job.failed", 0),
            ("?since=2027-01-01T00:00", 0),
            (f"?subscriber={receiver['id']}&missed=true", 0),
        ):
            text = await reader.see(f"/replays/new{query}")
            assert EN.text("replay.would", count=count) in text, query
            assert (EN.text("empty.replay") in text) == (count == 0), query
        text = await reader.see(f"/replays/new?event={newest['event']}")
        assert f"/deliveries/{newest['id']}" in text
        assert "1 <a" in text.partition(EN.text("replay.by_subscriber"))[2]
        assert await states(pages) == ["dead"] * 3
        assert await pages.api.rows("replay") == []


async def test_a_preview_of_more_than_is_counted_says_so(
    pages: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("engine.replay_contract", "schemas.replays"):
        monkeypatch.setattr(f"orchestrator.{place}.COUNT_CAP", 2)
    async with pages.reader(Scope.WRITE) as reader:
        more = EN.text("replay.more_than", count="2")
        text = await reader.see("/replays/new")
        assert EN.text("replay.begin.do", count=more) in text
        text = await reader.send("/replays/new", status="dead")
        assert EN.text("replay.of", done="3", count=more) in text


async def test_a_replay_begins_with_the_selection_of_its_preview(pages: Dashboard) -> None:
    (newest, *_) = (await pages.api.get("/v1/deliveries"))["data"]
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send(
            "/replays/new", event=newest["event"], status="dead", types="job.*"
        )
        assert EN.text("notice.replay.begin.done") in text
        assert EN.text("replay.of", done="1", count="1") in text
        assert "job.*" in text
        assert sorted(await states(pages)) == ["dead", "dead", "pending"]
        (made,) = await pages.api.rows("replay")
        assert f'<tr id="{made["id"]}"' in await reader.see("/replays?status=done")
        assert EN.text("empty.replays") in await reader.see("/replays?status=running")


async def test_a_running_replay_is_stopped(pages: Dashboard) -> None:
    slow = {"status": "dead", "rate": 0.1}
    begun = await pages.api.post("/v1/replays", 202, slow)
    path = f"/replays/{begun['id']}"
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(path)
        assert "data-moving" in text
        assert f"{path}/cancel" not in text
        await reader.send(f"{path}/cancel", 403)
        assert "data-moving" in await reader.see("/replays")
    async with pages.reader(Scope.WRITE) as reader:
        assert f"{path}/cancel" in await reader.see(path)
        text = await reader.send(f"{path}/cancel")
        assert EN.text("notice.replay.cancel.done") in text
        assert "data-moving" not in text
        assert (await pages.api.get(f"/v1{path}"))["status"] == "canceled"
        await reader.send(f"{path}/cancel", 409)
        await reader.see("/replays/rpl_0", 404)


async def test_a_key_that_only_reads_begins_nothing(pages: Dashboard) -> None:
    async with pages.reader(Scope.READ) as reader:
        assert "/replays/new" not in await reader.see("/replays")
        assert "/replays/new" not in await reader.see("/deliveries")
        await reader.see("/replays/new", 403)
        await reader.send("/replays/new", 403, status="dead")
        assert await states(pages) == ["dead"] * 3


async def test_failed_jobs_are_retried_after_a_preview_of_what_that_costs(pages: Dashboard) -> None:
    failed = [await finished_job(pages.api, JobState.FAILED) for _ in range(2)]
    account = (await pages.api.get(f"/v1/jobs/{failed[0]}"))["account"]
    async with pages.reader(Scope.READ) as reader:
        assert "/replays/retry" not in await reader.see("/replays")
        await reader.see("/replays/retry", 403)
        await reader.send("/replays/retry", 403)
    async with pages.reader(Scope.WRITE) as reader:
        assert EN.text("empty.retry") in await reader.see("/replays/retry?error=vendor_auth")
        text = await reader.see(f"/replays/retry?status=failed,expired&account={account}")
        assert EN.text("retry.would", count="2", renders="2") in text
        assert f"/accounts/{account}" in text
        assert all(f"/jobs/{job}" in text for job in failed)
        before = await pages.api.rows("job")
        text = await reader.send("/replays/retry", account=account)
        assert EN.text("replay.of", done="2", count="2") in text
        assert EN.text("retry.explained") in text
        after = await pages.api.rows("job")
        assert {row["retry_of"] for row in after} - {None} == set(failed)
        assert len(after) == len(before) + 2
        assert EN.text("retry.what") in await reader.see("/replays")
        await reader.see("/replays/retry?metadata=order", 422)
        await reader.see(f"/replays/retry?created_after={HOSTILE}", 422)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (f"types={HOSTILE}", "/types"),
        ("subscriber=elsewhere", "/subscriber"),
        ("event=elsewhere", "/event"),
        ("missed=true", "/subscriber"),
        ("status=lost", "/status"),
        ("rate=fast", "/rate"),
        ("since=2026-11-21T00:00&until=2026-11-20T00:00", "/until"),
    ],
)
async def test_a_selection_that_is_refused_names_the_field(
    pages: Dashboard, query: str, pointer: str
) -> None:
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.see(f"/replays/new?{query}", 422)
        assert f"<code>{pointer}" in text
        raw = (await reader.http.get(f"/dashboard/replays/new?{query}")).text
        assert HOSTILE not in raw
        fields = dict(part.split("=") for part in query.split("&"))
        await reader.send("/replays/new", 422, **fields)
        assert await pages.api.rows("replay") == []
