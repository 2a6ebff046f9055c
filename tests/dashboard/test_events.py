"""Events: the log with its filters, one event, and its replay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.tables import subscriber
from orchestrator.events.subscribers import announce
from orchestrator.foundation.states import EventType, JobState
from tests.api.test_support import finished_job, subscribed
from tests.harness.readers import Dashboard, dashboard

_ = catalogue("en").text


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path) as found:
        yield found


async def test_the_log_is_filtered_by_type_and_by_job(pages: Dashboard) -> None:
    good = await finished_job(pages.api)
    bad = await finished_job(pages.api, JobState.FAILED)
    async with pages.reader(Scope.READ) as reader:
        for query, shown, hidden in (
            ("", [good, bad], []),
            ("?type=job.failed&job=", [bad], [good]),
            ("?type=job.*", [good, bad], []),
            (f"?job={good}", [good], [bad]),
            ("?type=account.*", [_("empty.events")], [good, bad]),
        ):
            text = await reader.see(f"/events{query}")
            assert all(f"dashboard/jobs/{one}" in text or one in text for one in shown), query
            assert not [one for one in hidden if f"dashboard/jobs/{one}" in text], query
        await reader.see("/events?type=%25", 422)
        await reader.see("/events?job=nope", 422)


async def test_the_log_has_pages(pages: Dashboard) -> None:
    for _number in range(16):
        await finished_job(pages.api)
    async with pages.reader(Scope.READ) as reader:
        events = await pages.api.get("/v1/events?limit=30")
        text = await reader.see("/events")
        if events["has_more"]:
            assert f"after={events['next_cursor']}" in text
            older = await reader.see(f"/events?after={events['next_cursor']}")
            assert _("pages.first") in older


async def test_an_event_is_shown_with_its_deliveries_and_can_be_replayed(pages: Dashboard) -> None:
    hostile = "</pre><script>alert(1)</script>"
    subscriber = await subscribed(pages.api)
    job = await pages.api.open(metadata={"name": hostile})
    await pages.api.finish(job["id"])
    (event,) = (await pages.api.get("/v1/events?type=job.succeeded"))["data"]
    async with pages.reader(Scope.READ) as reader:
        raw = (await reader.http.get(f"/dashboard/events/{event['id']}")).text
        assert "<script>alert" not in raw
        text = await reader.see(f"/events/{event['id']}")
        assert hostile in text
        assert f"dashboard/subscribers/{subscriber['id']}" in text
        assert _("event.replay.confirm") not in text
        await reader.send(f"/events/{event['id']}/replay", 403)
        await reader.see(f"/events?job={event['id']}", 303)
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send(f"/events/{event['id']}/replay")
        assert _("notice.event.replay.done") in text
        await reader.see("/events/evt_nope", 404)


async def test_a_fact_about_a_subscriber_says_what_and_where_and_has_no_deadline(
    pages: Dashboard,
) -> None:
    api = pages.api
    made = await subscribed(api)
    await api.run(sa.update(subscriber).values(failing_since=api.clock.now()))
    kind, now = EventType.SUBSCRIBER_FAILING, api.clock.now()
    await api.runtime.store.write(announce, api.runtime.ids, made["id"], kind, now)
    (event,) = (await api.get("/v1/events?type=subscriber.failing"))["data"]
    async with pages.reader(Scope.READ) as reader:
        for path in ("/events?type=subscriber.failing", f"/events/{event['id']}"):
            text = await reader.see(path)
            assert _("source.service") in text
            assert _("source.clock") not in text
            assert _("event.failing") in text
            assert f"{made['url']}</a>" in text
