"""Long polls of the log (`GET /v1/events?wait=`), oldest first; and a kill under its readers."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.foundation.states import EventType
from tests.events.test_log import an_id
from tests.harness.api_caller import KEY, until
from tests.harness.followers import Follower, serving
from tests.harness.processes import Replica

pytestmark = pytest.mark.long


def ids(page: dict[str, Any]) -> list[str]:
    return [event["id"] for event in page["data"]]


async def test_a_long_poll_ends_with_the_next_event_or_its_timeout(
    tmp_path: Path, everywhere: None
) -> None:
    async with serving(tmp_path) as it, it.caller() as http:
        start = (await http.get("/v1/events?wait=0")).json()
        assert (start["data"], start["has_more"]) == ([], False)
        begun = time.monotonic()
        empty = (await http.get(f"/v1/events?wait=1&after={start['next_cursor']}")).json()
        assert (empty["data"], empty["next_cursor"]) == ([], start["next_cursor"])
        assert time.monotonic() - begun >= 1
        polling = asyncio.create_task(http.get(f"/v1/events?wait=60&after={start['next_cursor']}"))
        await until(lambda: it.runtime.feed._followers)
        (event,) = await it.say({"n": 1})
        async with asyncio.timeout(10):
            page = (await polling).json()
        assert (ids(page), page["has_more"], page["next_cursor"]) == ([event], False, event)
        assert page["data"][0] == (await http.get(f"/v1/events/{event}")).json()


async def test_long_polls_page_through_the_log_oldest_first(
    tmp_path: Path, everywhere: None
) -> None:
    """Without `wait` the same cursor selects older events, newest first."""
    async with serving(tmp_path) as it, it.caller() as http:
        cursor, seen = (await http.get("/v1/events?wait=0")).json()["next_cursor"], list[str]()
        made = await it.count(0, 5) + await it.say({}, {})
        page: dict[str, Any] = {"has_more": True}
        while page["has_more"]:
            page = (await http.get(f"/v1/events?wait=0&limit=3&after={cursor}")).json()
            cursor, seen = page["next_cursor"], seen + ids(page)
        assert (seen, cursor) == (made, made[-1])
        assert ids((await http.get(f"/v1/events?after={made[3]}")).json()) == made[2::-1]
        assert (await http.get("/v1/events")).json()["next_cursor"] is None


async def test_a_long_poll_waits_for_a_matching_event(tmp_path: Path, everywhere: None) -> None:
    """Events that do not match move the cursor."""
    async with serving(tmp_path) as it, it.caller() as http:
        (first,) = await it.say({})
        polling = asyncio.create_task(http.get(f"/v1/events?wait=30&after={first}&type=job.failed"))
        await until(lambda: it.runtime.feed._followers)
        (passed,) = await it.say({})
        (event,) = await it.say({}, kind=EventType.JOB_FAILED)
        assert ids((await polling).json()) == [event]
        (later,) = await it.say({})
        page = (
            await http.get(f"/v1/events?wait=0&after={first}&job=job_01kb7x3m5tf6a8r2w9n4c1d0eh")
        ).json()
        assert page["data"] == []
        assert ids((await http.get(f"/v1/events?wait=0&after={passed}")).json()) == [event, later]


async def test_an_unknown_cursor_is_refused_with_the_next_one(
    tmp_path: Path, everywhere: None
) -> None:
    async with serving(tmp_path) as it, it.caller() as http:
        made = await it.count(0, 2)
        refused = await http.get(f"/v1/events?wait=5&after={an_id(1)}")
        problem = refused.json()
        assert (refused.status_code, problem["code"]) == (410, "cursor_gone")
        page = (await http.get(f"/v1/events?wait=5&after={problem['next_cursor']}")).json()
        assert ids(page) == made


async def test_long_polls_do_not_delay_shutdown(tmp_path: Path) -> None:
    async with serving(tmp_path) as it, it.caller() as http:
        job = (
            await http.post("/v1/jobs", json={"model": "m", "input": {"prompt": "a cat"}})
        ).json()["id"]
        calls = [
            http.get("/v1/events?wait=60"),
            http.get(f"/v1/jobs/{job}", headers={"prefer": "wait=60"}),
        ]
        polling = [asyncio.create_task(call) for call in calls]
        await until(lambda: it.runtime.feed._followers and it.runtime.notifier.job_waiters._waiting)
        it.runtime.feed.close()
        begun = time.monotonic()
        events, looked = await asyncio.gather(*polling)
        assert time.monotonic() - begun < 5
        assert (events.status_code, looked.status_code) == (200, 200)


async def test_events_acknowledged_before_a_kill_are_streamed_after_it(
    tmp_path: Path, database: str
) -> None:
    """Processes are killed while clients write and read: each event arrives once, in order."""
    service = Replica(tmp_path, {}, program="orchestrator", database=database)
    client, acknowledged = Follower(service.url), list[str]()
    headers = {"authorization": f"Bearer {KEY}"}

    async def write(http: httpx.AsyncClient, subscriber: str) -> None:
        while True:
            made = await http.post(f"/v1/subscribers/{subscriber}/test")
            acknowledged.append(made.json()["id"])

    async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=30) as http:
        await service.start()
        try:
            await service.ready(http)
            body = {"url": "http://127.0.0.1:9/hook", "types": ["account.*"]}
            subscriber = (await http.post("/v1/subscribers", json=body)).json()["id"]
            async with client.following(coming_back=True):
                for _ in range(2):
                    enough = len(acknowledged) + 30
                    writing = [asyncio.create_task(write(http, subscriber)) for _ in range(3)]
                    await until(lambda enough=enough: len(acknowledged) >= enough)  # type: ignore[misc]
                    await service.stop(signal.SIGKILL)
                    ended = await asyncio.gather(*writing, return_exceptions=True)
                    assert all(isinstance(error, httpx.TransportError) for error in ended)
                    await service.start()
                    await service.ready(http)
                last = (await http.post(f"/v1/subscribers/{subscriber}/test")).json()["id"]
                await until(lambda: last in client.ids)
            assert await service.stop() == 0
        finally:
            if service.child is not None:
                await service.stop(signal.SIGKILL)
    assert len(client.ids) == len(set(client.ids))
    assert set(acknowledged) <= set(client.ids)
    assert client.gaps == 0
