"""The list of jobs: filters, search by any id, pages, and what an empty one says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.tables import account_state, job
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState
from orchestrator.jobs.ledger import Reschedule
from tests.api.test_support import TWO, finished_job
from tests.harness.readers import Dashboard, dashboard

TEXTS = catalogue("en").texts


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path, accounts=TWO) as found:
        yield found


def shown(text: str) -> set[str]:
    """Return the ids of the rows of a page."""
    return set(re.findall(r'<tr id="(job_\w+)">', text))


async def test_the_filters_are_those_of_the_api(pages: Dashboard) -> None:
    api = pages.api
    queued = (
        await api.open(metadata={"order": "991"}, external_task_id="order-1", fairness_key="shop-7")
    )["id"]
    failed = await finished_job(api, JobState.FAILED)
    error = {
        "code": "vendor_auth",
        "message": "m",
        "vendor_code": None,
        "vendor_message": "bad key",
    }
    await api.run(sa.update(job).where(job.c.id == failed).values(error=error))
    other = (await api.open("dream", vendor_task_id="v-77", model="m2"))["id"]
    every = {queued, failed, other}
    cases: dict[str, set[str]] = {
        "": every,
        "?status=&account=&q=": every,
        "?status=queued": {queued, other},
        "?status=failed,queued&account=main": {queued, failed},
        "?account=dream": {other},
        "?model=m2": {other},
        "?resolved_by=push": {failed},
        "?fairness_key=shop-7": {queued},
        "?error=vendor_auth": {failed},
        "?metadata=order%3D991": {queued},
        "?external_task_id=order-1": {queued},
        "?q=order-1": {queued},
        "?q=%20v-77%20": {other},
        "?q=order%3D991": {queued},
        "?created_after=2030-01-01T00:00:00Z": set(),
        "?q=nothing": set(),
    }
    async with pages.reader(Scope.READ) as reader:
        for query, ids in cases.items():
            text = await reader.see(f"/jobs{query}")
            assert shown(text) == ids, query
            assert ids or TEXTS["empty.found" if "?q=" in query else "empty.jobs"] in text
        assert "bad key" in await reader.see("/jobs?status=failed")
        for wrong in ("status=nonsense", "created_after=yesterday", "metadata=x", "after=1"):
            text = await reader.see(f"/jobs?{wrong}", 422)
            assert TEXTS["jobs.refused"] in text
            assert 'role="search"' in text, "beside the form"
        assert 'dashboard/jobs?q=order%3DA-20313">order=A-20313' in await reader.see(
            "/jobs?q=A-20313"
        )


@pytest.mark.parametrize("wanted", ["job_01m7yq3c5zem19x9c951etf8em", "job_../../../evil", "job_"])
async def test_the_id_of_a_job_leads_to_it_and_nowhere_else(pages: Dashboard, wanted: str) -> None:
    async with pages.reader(Scope.READ) as reader:
        response = await reader.http.get("/dashboard/jobs", params={"q": wanted})
        if wanted.removeprefix("job_").isalnum():
            assert response.headers["location"] == f"../dashboard/jobs/{wanted}"
        else:
            assert response.status_code == 200


async def test_a_queued_job_says_why_it_waits_and_a_stuck_one_what_its_vendor_answers(
    pages: Dashboard,
) -> None:
    api = pages.api
    queued = (await api.open())["id"]
    live = await api.open(state=JobState.SUBMITTED, vendor_task_id="v-1", claimed_by=1)
    marked = Reschedule(live["id"], live["lease"], live["version"], {"due_at": api.clock.now()})
    await api.runtime.store.write(api.runtime.ledger.mark_stuck, [marked])
    paused = account_state.update().where(account_state.c.account == "main")
    async with pages.reader(Scope.READ) as reader:
        assert TEXTS["status.warning"] not in await reader.see(f"/jobs/{queued}")
        await api.run(paused.values(paused_until=after(api.clock.now(), 60)))
        words = catalogue("en").text("finding.paused", account="main")
        for path in ("/jobs", f"/jobs/{queued}"):
            assert words in await reader.see(path)
        text = await reader.see(f"/jobs/{live['id']}")
        assert words not in text
        assert TEXTS["finding.job_stuck"] in text
        # The account is no longer in the settings.
        await api.run(sa.update(job).where(job.c.id == queued).values(account="gone"))
        for path in ("/jobs", f"/jobs/{queued}"):
            assert words not in await reader.see(path)


async def test_a_job_shows_its_start_and_its_turns(pages: Dashboard) -> None:
    api = pages.api
    start = after(api.clock.now(), 600)
    turns: dict[str, Any] = {"fairness_key": "customer-7", "queue_rank": -4}
    waits = (await api.open(start_after=start, due_at=start, **turns))["id"]
    async with pages.reader(Scope.READ) as reader:
        for path in ("/jobs", f"/jobs/{waits}"):
            assert TEXTS["job.starts"] in await reader.see(path)
        text = await reader.see(f"/jobs/{waits}")
        assert "<dd>customer-7</dd>" in text
        assert "<dd>4</dd>" in text
        api.clock.advance(601)
        assert f"{TEXTS['job.starts']} <" not in await reader.see("/jobs")


async def test_a_link_to_the_next_page_repeats_no_notice(pages: Dashboard) -> None:
    for _ in range(51):
        await pages.api.open()
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/jobs?notice=job.cancel.done")
    assert TEXTS["notice.job.cancel.done"] in text
    assert 'rel="next"' in text
    assert "notice=" not in text


async def test_pages_follow_each_other_with_their_filter(pages: Dashboard) -> None:
    made = {(await pages.api.open())["id"] for _ in range(51)}
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/jobs?account=main")
        first = shown(text)
        assert len(first) == 50
        (older,) = re.findall(r'rel="next" href="[^"]*/jobs(\?[^"]+)"', text)
        assert "account=main" in older
        rest = await reader.see(f"/jobs{older}")
        assert first | shown(rest) == made
        assert TEXTS["pages.first"] in rest


FILES: list[tuple[dict[str, Any], str]] = [
    ({"needs_key": True}, "/outputs/0"),
    ({}, "https://cdn.example/v.mp4"),
    ({"url": "javascript:alert(1)"}, "/jobs/{id}"),
]


@pytest.mark.parametrize(("file", "link"), FILES, ids=["key", "url", "script"])
async def test_a_row_links_the_output(pages: Dashboard, file: dict[str, Any], link: str) -> None:
    job_id = await finished_job(pages.api)
    stored = {"id": None, "url": "https://cdn.example/v.mp4", "duration": None, "expires_at": None,
              "watermark_url": None, "needs_key": False, "is_stated": True}  # fmt: skip
    picture = {**stored, "url": "https://cdn.example/i.png"}
    output = {"videos": [stored | file], "images": [picture], "audios": []}
    await pages.api.run(sa.update(job).where(job.c.id == job_id).values(output=output))
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/jobs")
        clip = re.escape(TEXTS["job.video"].format(n=1))
        (found,) = re.findall(rf'href="([^"]*)" rel="noreferrer">{clip}<', text)
        assert found.endswith(link.format(id=job_id))
        assert "javascript:" not in text
        assert 'class="thumb" loading="lazy" src="https://cdn.example/i.png"' in text
