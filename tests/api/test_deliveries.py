"""Deliveries and events over HTTP: shown, retried, replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.tables import callback_address, delivery, subscriber
from orchestrator.foundation.clock import after, rfc3339
from orchestrator.foundation.states import JobState
from tests.api.test_support import Caller, calling, finished_job, submitted, subscribed

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_dead_deliveries_of_a_time_span_are_replayed(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        path = f"/v1/subscribers/{(await subscribed(api))['id']}/replay"
        for _ in range(2):
            await finished_job(api)
            api.clock.advance(3600)
        await api.run(sa.update(delivery).values(state="dead", due_at=None))
        span = {"since": "2026-11-20T10:30:00Z", "until": "2026-11-20T13:00:00+01:00"}
        assert (await api.post(path, 202, span))["count"] == 1
        assert (await api.post(path, 202))["count"] == 1
        assert (await api.post(path, 202))["count"] == 0
        assert (await api.post(path, 202, {"status": "pending"}))["count"] == 2
        await api.post(path, 422, {"since": "yesterday"})
        await api.post(path, 422, {"status": "failed"})


async def test_an_event_is_replayed_to_its_subscribers_and_to_new_ones(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await subscribed(api)
        await finished_job(api)
        await subscribed(api)
        await subscribed(api, types=["job.failed"])
        (event,) = (await api.get("/v1/events"))["data"]
        assert (await api.post(f"/v1/events/{event['id']}/replay", 202))["count"] == 2
        assert (await api.post(f"/v1/events/{event['id']}/replay", 202))["count"] == 2
        await api.post(f"/v1/events/{api.runtime.ids('evt')}/replay", 404)


async def test_deliveries_are_listed_with_their_event_and_filtered(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first, second = await subscribed(api), await subscribed(api)
        job_id = await finished_job(api)
        page = await api.get("/v1/deliveries?limit=1")
        assert (page["has_more"], page["data"][0]["job"]) == (True, job_id)
        assert page["data"][0]["event_type"] == "job.succeeded"
        for subscriber in (first["id"], second["id"]):
            (mine,) = (await api.get(f"/v1/deliveries?subscriber={subscriber}&status=pending"))[
                "data"
            ]
            assert mine["subscriber"] == subscriber
        await api.run(
            sa.update(delivery).where(delivery.c.subscriber_id == second["id"]).values(state="dead")
        )
        for states, count in (
            ("dead", 1),
            ("dead,pending", 2),
            ("pending,pending,held", 1),
            ("held,delivered", 0),
        ):
            assert len((await api.get(f"/v1/deliveries?status={states}"))["data"]) == count
        for bad in (
            "status=lost",
            "status=dead,",
            "subscriber=x",
            "event=x",
            "after=x",
            "limit=0",
            "colour=red",
        ):
            await api.get(f"/v1/deliveries?{bad}", 422)


@pytest.mark.parametrize("state", ["pending", "held", "dead", "delivered"])
async def test_a_delivery_in_any_state_can_be_retried(tmp_path: Path, state: str) -> None:
    async with calling(tmp_path) as api:
        await subscribed(api)
        await finished_job(api)
        await api.run(sa.update(delivery).values(state=state, due_at=None, tries=3))
        delivery_id = (await api.get("/v1/deliveries"))["data"][0]["id"]
        retried = await api.post(f"/v1/deliveries/{delivery_id}/retry", 202)
        assert (retried["status"], retried["tries"], retried["attempts"]) == ("pending", 3, [])
        assert retried["next_attempt_at"] is not None
        assert (await api.get(f"/v1/deliveries/{delivery_id}")) == retried


async def test_events_are_listed_as_they_were_sent(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        done, failed = await finished_job(api), await finished_job(api, JobState.FAILED)
        newest, oldest = (await api.get("/v1/events"))["data"]
        assert (newest["type"], newest["job"]) == ("job.failed", failed)
        assert (oldest["sequence"], oldest["data"]["id"], oldest["source"]) == (1, done, "push")
        assert await api.get(f"/v1/events/{oldest['id']}") == oldest
        assert (await api.get(f"/v1/events?job={done}"))["data"] == [oldest]
        assert (await api.get("/v1/events?type=job.fail*,subscriber.*"))["data"] == [newest]
        for bad in ("type=job.exploded", "type=", "job=x", "limit=500"):
            await api.get(f"/v1/events?{bad}", 422)


async def waiting(api: Caller) -> tuple[str, str | None]:
    """Return the reason and the end of what the only delivery waits for."""
    (row,) = (await api.get("/v1/deliveries"))["data"]
    assert (await api.get(f"/v1/deliveries/{row['id']}"))["waiting"] == row["waiting"]
    return row["waiting"]["reason"], row["waiting"]["until"]


async def test_a_delivery_says_what_it_waits_for(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api)
        await finished_job(api)
        assert await waiting(api) == ("queued", None)
        rest = after(api.clock.now(), 3600)
        await api.run(sa.update(subscriber).values(resting_until=rest))
        assert await waiting(api) == ("resting", rfc3339(rest))
        (row,) = (await api.get("/v1/deliveries"))["data"]
        assert row["next_attempt_at"] == rfc3339(rest)
        forced = await api.post(f"/v1/deliveries/{row['id']}/retry", 202)
        assert forced["waiting"] == {"reason": "queued", "until": None}
        later = after(api.clock.now(), 7200)
        await api.run(sa.update(delivery).values(due_at=later, forced_at=None))
        assert await waiting(api) == ("scheduled", rfc3339(later))
        await api.post(f"/v1/subscribers/{made['id']}/pause", 200)
        assert await waiting(api) == ("paused", None)
        await api.run(sa.update(delivery).values(state="dead", due_at=None))
        (row,) = (await api.get("/v1/deliveries"))["data"]
        assert row["waiting"] is None


async def test_the_host_of_callback_urls_is_shown_with_what_fails_there(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        urls = [f"https://my.app/{n}?key=opensesame" for n in range(2)]
        jobs = [await submitted(api, callback_url=url) for url in urls]
        await subscribed(api)
        assert (await api.get("/v1/subscribers?callbacks=true&failing=true"))["data"] == []
        rest = after(api.clock.now(), 60)
        since = api.clock.now()
        for number, url in enumerate(urls):
            await api.run(sa.insert(callback_address).values(
                key=api.runtime.keys.seal_address(url).key, failures=3, last_error="status_500",
                lane=(await api.job(jobs[0]["id"]))["callback_lane"], updated_at=since,
                failing_since=after(since, number), resting_until=rest,
            ))  # fmt: skip
        (host,) = (await api.get("/v1/subscribers?callbacks=true&failing=true"))["data"]
        assert (host["kind"], host["url"]) == ("callback", "https://my.app")
        assert host["failing_since"] == rfc3339(since)
        assert host["callbacks"] == {"failing": 2, "failures": 6, "last_error": "status_500"}
        path = f"/v1/subscribers/{host['id']}"
        assert await api.get(path) == host
        await api.finish(jobs[0]["id"])
        (owed,) = (await api.get(f"/v1/deliveries?subscriber={host['id']}"))["data"]
        assert owed["waiting"] == {"reason": "resting", "until": rfc3339(rest)}
        await api.call("PATCH", path, 409, {"types": ["*"]})
        await api.call("DELETE", path, 409)
        for verb in ("pause", "resume", "test", "rotate-secret"):
            await api.post(f"{path}/{verb}", 409)
        assert len((await api.get("/v1/subscribers"))["data"]) == 1
        await api.get("/v1/subscribers?callbacks=yes", 422)


async def test_a_delivery_shows_its_request_without_its_secrets(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        hook = "https://my.app/hook?token=hush-hush-hush"
        own = {"Authorization": "Bearer hush-hush-hush", "X-Shop": "hush-hush-hush"}
        plain = await subscribed(api, url=hook, headers=own)
        slack = "https://hooks.slack.com/services/T0/B0/hush-hush-hush"
        chat = await subscribed(api, kind="slack", url=slack)
        job_id = await finished_job(api)
        called = await submitted(api, callback_url="https://a.example/hush-hush-hush")
        await api.finish(called["id"])

        async def request(subscriber: str) -> dict[str, Any]:
            (first, *_) = (await api.get(f"/v1/deliveries?subscriber={subscriber}"))["data"][::-1]
            shown = await api.get(f"/v1/deliveries/{first['id']}")
            assert "hush" not in json.dumps(shown)
            found: dict[str, Any] = shown["request"]
            assert (found["method"], found["truncated"]) == ("POST", False)
            return found

        sent = await request(plain["id"])
        assert json.loads(sent["body"])["data"]["id"] == job_id
        assert sent["url"].startswith("https://my.app/hook")
        assert sent["headers"]["host"] == "my.app"
        assert {sent["headers"][name] for name in ("authorization", "x-shop")} == {"***"}
        assert sent["headers"]["webhook-signature"] == "***"
        assert sent["headers"]["webhook-id"].startswith("evt_")
        posted = await request(chat["id"])
        assert "/dashboard/shared/***" in posted["body"]
        assert job_id in posted["body"]
        (lane,) = [one["id"] for one in (await api.get("/v1/subscribers?callbacks=true"))["data"]]
        assert (await request(lane))["url"] == "https://a.example"
        await api.call("DELETE", f"/v1/subscribers/{plain['id']}", 204)
        (dead, *_) = (await api.get(f"/v1/deliveries?subscriber={plain['id']}"))["data"]
        assert (await api.get(f"/v1/deliveries/{dead['id']}"))["request"] is None
