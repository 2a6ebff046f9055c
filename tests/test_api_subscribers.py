"""Subscribers, deliveries and events over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.states import FINAL_EVENTS, JobState
from orchestrator.tables import delivery
from tests.test_api_support import Caller, calling

HOOK = {"kind": "webhook", "url": "https://my.app/hook"}


async def created(api: Caller, **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.post("/v1/subscribers", 201, HOOK | values)
    return made


async def told(api: Caller, state: JobState = JobState.SUCCEEDED) -> str:
    """Let a job end, and return its id."""
    job_id: str = (await api.open())["id"]
    await api.finish(job_id, state)
    return job_id


async def test_the_secret_is_shown_once(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        response = await api.call("POST", "/v1/subscribers", 201, HOOK)
        made = response.json()
        assert made["secret"].startswith("whsec_")
        assert (made["status"], made["disabled_reason"]) == ("active", None)
        assert (made["types"], made["max_in_flight"]) == (list(FINAL_EVENTS), 8)
        shown = await api.get(response.headers["location"].removeprefix(api.rt.base))
        assert shown == {name: value for name, value in made.items() if name != "secret"}
        assert (await api.get("/v1/subscribers"))["data"] == [shown]


async def test_a_slack_address_is_itself_a_secret(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await created(api, kind="slack", url="https://hooks.slack.com/services/T/B/hunter2")
        assert "secret" not in made
        assert "hunter2" not in str(made)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kind": "pigeon"}, "/kind"),
        ({"url": "http://10.0.0.1/x"}, "/url"),
        ({"url": "gopher://my.app"}, "/url"),
        ({"url": ""}, "/url"),
        ({"kind": "slack", "url": "http://hooks.slack.com/x"}, "/url"),
        ({"types": ["job.*", "job.exploded"]}, "/types/1"),
        ({"types": []}, "/types"),
        ({"types": "job.*"}, "/types"),
        ({"headers": {"webhook-id": "x"}}, "/headers"),
        ({"headers": {"Host": "x"}}, "/headers"),
        ({"headers": {"Content-Length": "1"}}, "/headers"),
        ({"headers": {"x": "a\r\nb: c"}}, "/headers"),
        ({"headers": {"a b": "x"}}, "/headers"),
        ({"options": {"format": "xml"}}, "/options/format"),
        ({"options": {"colour": "red"}}, "/options/colour"),
        ({"rate_limit": 0}, "/rate_limit"),
        ({"max_in_flight": 0}, "/max_in_flight"),
        ({"max_in_flight": 1.5}, "/max_in_flight"),
        ({"description": "x" * 501}, "/description"),
        ({"secret": "whsec_mine"}, "/secret"),
    ],
)
async def test_a_wrong_field_is_pointed_at(tmp_path: Path, change: dict[str, Any], pointer: str) -> None:
    async with calling(tmp_path) as api:
        assert (await api.post("/v1/subscribers", 422, HOOK | change))["errors"][0]["pointer"] == pointer
        if "kind" not in change:
            path = f"/v1/subscribers/{(await created(api))['id']}"
            refused = await api.call("PATCH", path, 422, change)
            assert refused.json()["errors"][0]["pointer"] == pointer


async def test_a_change_leaves_the_rest_as_it_is(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await created(api, rate_limit=2, description="mine")
        del made["secret"]
        path = f"/v1/subscribers/{made['id']}"
        change = {
            "url": "https://my.app/new",
            "types": ["job.*"],
            "rate_limit": None,
            "options": {"format": "cloudevents"},
        }
        assert (await api.call("PATCH", path, 200, change)).json() == made | change
        await api.call("PATCH", path, 200, {"headers": {"authorization": "Bearer hunter2"}})
        (row,) = await api.rows("subscriber")
        assert api.rt.keys.reveal(row["address"]) == "https://my.app/new"
        assert "hunter2" in api.rt.keys.reveal(row["headers"])
        assert "hunter2" not in str(await api.get(path))
        assert (await api.call("PATCH", path, 200, {})).json() == made | change
        for stays in ("types", "url", "max_in_flight"):
            await api.call("PATCH", path, 422, {stays: None})
        await api.call("PATCH", path, 422, {"kind": "slack"})


@pytest.mark.parametrize("call", ["GET", "PATCH", "DELETE", "POST /test", "POST /pause", "POST /resume", "POST /replay",
                                  "POST /rotate-secret"])  # fmt: skip
async def test_an_unknown_subscriber_is_not_found(tmp_path: Path, call: str) -> None:
    async with calling(tmp_path) as api:
        method, _, verb = call.partition(" ")
        for subscriber_id in (api.rt.ids("sub"), "sub_x"):
            await api.call(method, f"/v1/subscribers/{subscriber_id}{verb}", 404)


async def test_pausing_holds_and_resuming_lets_flow(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        path = f"/v1/subscribers/{(await created(api))['id']}"
        await told(api)
        assert (await api.post(f"{path}/pause", 200))["status"] == "paused"
        (held,) = (await api.get("/v1/deliveries?status=held"))["data"]
        assert held["next_attempt_at"] is None
        assert (await api.post(f"{path}/resume", 200))["status"] == "active"
        (flowing,) = (await api.get("/v1/deliveries?status=pending"))["data"]
        assert (flowing["id"], bool(flowing["next_attempt_at"])) == (held["id"], True)


async def test_a_deleted_subscriber_is_gone_and_its_deliveries_are_dead(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        path = f"/v1/subscribers/{(await created(api))['id']}"
        await told(api)
        await api.call("DELETE", path, 204)
        await api.get(path, 404)
        (dead,) = (await api.get("/v1/deliveries"))["data"]
        assert (dead["status"], dead["last_error"]) == ("dead", "subscriber_deleted")
        await api.post(f"/v1/deliveries/{dead['id']}/retry", 409)


async def test_a_test_event_is_owed_to_that_subscriber_alone(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made, _ = await created(api), await created(api, types=["*"])
        sent = await api.post(f"/v1/subscribers/{made['id']}/test", 202)
        (owed,) = (await api.get(f"/v1/deliveries?event={sent['id']}"))["data"]
        assert (owed["subscriber"], owed["event_type"], owed["job"]) == (made["id"], "subscriber.test", None)


async def test_both_secrets_sign_while_a_rotation_lasts(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await created(api)
        path = f"/v1/subscribers/{made['id']}/rotate-secret"
        rotated = await api.post(path, 200, {"grace_seconds": 60})
        assert rotated["secret"] not in ("", made["secret"])
        assert rotated["previous_expires_at"].startswith("2026-11-20T10:01:0")
        assert rotated["id"] == made["id"]
        await api.post(path, 422, {"grace_seconds": -1})
        slack = await created(api, kind="slack", url="https://hooks.slack.com/x")
        await api.post(f"/v1/subscribers/{slack['id']}/rotate-secret", 409)


async def test_what_died_is_replayed_in_a_span_of_time(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        path = f"/v1/subscribers/{(await created(api))['id']}/replay"
        for _ in range(2):
            await told(api)
            api.clock.turn(3600)
        await api.run(sa.update(delivery).values(state="dead", due_at=None))
        span = {"since": "2026-11-20T10:30:00Z", "until": "2026-11-20T13:00:00+01:00"}
        assert (await api.post(path, 202, span))["count"] == 1
        assert (await api.post(path, 202))["count"] == 1
        assert (await api.post(path, 202))["count"] == 0
        assert (await api.post(path, 202, {"status": "pending"}))["count"] == 2
        await api.post(path, 422, {"since": "yesterday"})
        await api.post(path, 422, {"status": "failed"})


async def test_an_event_is_replayed_to_all_who_were_owed_it_and_to_newcomers(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await created(api)
        await told(api)
        await created(api)
        await created(api, types=["job.failed"])
        (event,) = (await api.get("/v1/events"))["data"]
        assert (await api.post(f"/v1/events/{event['id']}/replay", 202))["count"] == 2
        assert (await api.post(f"/v1/events/{event['id']}/replay", 202))["count"] == 2
        await api.post(f"/v1/events/{api.rt.ids('evt')}/replay", 404)


async def test_deliveries_are_listed_with_their_event_and_filtered(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        one, two = await created(api), await created(api)
        job_id = await told(api)
        page = await api.get("/v1/deliveries?limit=1")
        assert (page["has_more"], page["data"][0]["job"]) == (True, job_id)
        assert page["data"][0]["event_type"] == "job.succeeded"
        for subscriber in (one["id"], two["id"]):
            (mine,) = (await api.get(f"/v1/deliveries?subscriber={subscriber}&status=pending"))["data"]
            assert mine["subscriber"] == subscriber
        for bad in ("status=lost", "subscriber=x", "event=x", "after=x", "limit=0", "colour=red"):
            await api.get(f"/v1/deliveries?{bad}", 422)


@pytest.mark.parametrize("state", ["pending", "held", "dead", "delivered"])
async def test_any_delivery_can_be_attempted_now(tmp_path: Path, state: str) -> None:
    async with calling(tmp_path) as api:
        await created(api)
        await told(api)
        await api.run(sa.update(delivery).values(state=state, due_at=None, tries=3))
        delivery_id = (await api.get("/v1/deliveries"))["data"][0]["id"]
        retried = await api.post(f"/v1/deliveries/{delivery_id}/retry", 202)
        assert (retried["status"], retried["tries"], retried["attempts"]) == ("pending", 3, [])
        assert retried["next_attempt_at"] is not None
        assert (await api.get(f"/v1/deliveries/{delivery_id}")) == retried


async def test_an_unknown_delivery_or_event_is_not_found(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await api.get("/v1/deliveries/" + api.rt.ids("dlv"), 404)
        await api.post("/v1/deliveries/" + api.rt.ids("dlv") + "/retry", 404)
        await api.get("/v1/events/" + api.rt.ids("evt"), 404)
        await api.get("/v1/events/stray", 404)


async def test_events_are_a_log_of_what_was_sent(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        done, failed = await told(api), await told(api, JobState.FAILED)
        newest, oldest = (await api.get("/v1/events"))["data"]
        assert (newest["type"], newest["job"]) == ("job.failed", failed)
        assert (oldest["sequence"], oldest["data"]["id"], oldest["source"]) == (1, done, "push")
        assert await api.get(f"/v1/events/{oldest['id']}") == oldest
        assert (await api.get(f"/v1/events?job={done}"))["data"] == [oldest]
        assert (await api.get("/v1/events?type=job.fail*,subscriber.*"))["data"] == [newest]
        for bad in ("type=job.exploded", "type=", "job=x", "limit=500"):
            await api.get(f"/v1/events?{bad}", 422)
