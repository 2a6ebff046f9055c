"""Subscribers over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Store
from orchestrator.database.tables import delivery
from orchestrator.events import subscribers
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.states import FINAL_EVENTS
from tests.api.test_support import HOOK, calling, finished_job, subscribed

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_the_secret_is_shown_once(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        response = await api.call("POST", "/v1/subscribers", 201, HOOK)
        made = response.json()
        assert made["secret"].startswith("whsec_")
        assert (made["status"], made["disabled_reason"]) == ("active", None)
        assert (made["types"], made["max_in_flight"]) == (list(FINAL_EVENTS), 8)
        shown = await api.get(response.headers["location"].removeprefix(api.runtime.base))
        assert shown == {name: value for name, value in made.items() if name != "secret"}
        assert (await api.get("/v1/subscribers"))["data"] == [shown]


async def test_a_slack_address_is_itself_a_secret(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(
            api, kind="slack", url="https://hooks.slack.com/services/T/B/hunter2"
        )
        assert "secret" not in made
        assert "hunter2" not in str(made)


async def test_a_change_leaves_the_rest_as_it_is(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api, rate_limit=2, description="mine")
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
        assert api.runtime.keys.decrypt(row["address"]) == "https://my.app/new"
        assert "hunter2" in api.runtime.keys.decrypt(row["headers"])
        assert "hunter2" not in str(await api.get(path))
        assert (await api.call("PATCH", path, 200, {})).json() == made | change
        for stays in ("types", "url", "max_in_flight"):
            await api.call("PATCH", path, 422, {stays: None})
        await api.call("PATCH", path, 422, {"kind": "slack"})


SECRET_HEADERS = {"authorization": "Bearer theirs"}


@pytest.mark.parametrize(
    "url",
    [
        "https://other.app/hook", "http://my.app/hook", "https://my.app:8443/hook",
        "https://my.app.evil.example/hook", "https://sub.my.app/hook",
    ],
)  # fmt: skip
async def test_another_origin_does_not_get_the_headers_of_the_last(
    tmp_path: Path, url: str
) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api, headers=SECRET_HEADERS)
        path = f"/v1/subscribers/{made['id']}"
        moved = (await api.call("PATCH", path, 200, {"url": url, "types": ["*"]})).json()
        assert (moved["url"], moved["types"], moved["dropped"]) == (url, ["*"], ["headers"])
        assert (await api.rows("subscriber"))[0]["headers"] is None
        both = {"url": "https://my.app/hook", "headers": SECRET_HEADERS}
        assert "dropped" not in (await api.call("PATCH", path, 200, both)).json()
        assert (await api.rows("subscriber"))[0]["headers"] is not None


@pytest.mark.parametrize(
    "url", ["https://my.app/other?x=1", "https://MY.APP:443/hook", "https://my.app/hook#x"]
)
async def test_the_same_origin_keeps_the_headers(tmp_path: Path, url: str) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api, headers=SECRET_HEADERS)
        path = f"/v1/subscribers/{made['id']}"
        assert "dropped" not in (await api.call("PATCH", path, 200, {"url": url})).json()
        assert (await api.rows("subscriber"))[0]["headers"] is not None


async def test_an_address_is_shown_without_its_query_to_any_key(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api, url="https://my.app/hook?key=opensesame#x")
        path = f"/v1/subscribers/{made['id']}"
        moved = await api.call("PATCH", path, 200, {"url": "https://my.app/b?key=opensesame"})
        await api.post(f"{path}/test", 202)
        assert (made["url"], moved.json()["url"]) == ("https://my.app/hook", "https://my.app/b")
        stored = [await api.rows(table) for table in ("subscriber", "event", "delivery")]
        assert "opensesame" not in str(stored)


async def test_subscribers_are_limited_per_key_and_per_address(tmp_path: Path) -> None:
    limits = {"subscribers_per_key": 3, "subscribers_per_address": 2}
    async with calling(tmp_path, **limits) as api:
        first, _ = await subscribed(api), await subscribed(api, url="https://MY.app:443/hook#2")
        refused = await api.post("/v1/subscribers", 409, HOOK)
        assert (refused["code"], "this address" in refused["detail"]) == ("limit_reached", True)
        third = await subscribed(api, url="https://my.app/third")
        path = f"/v1/subscribers/{third['id']}"
        await api.call("PATCH", path, 409, {"url": HOOK["url"]})
        await api.call("PATCH", f"/v1/subscribers/{first['id']}", 200, {"url": HOOK["url"]})
        refused = await api.post("/v1/subscribers", 409, HOOK | {"url": "https://my.app/4"})
        assert (refused["code"], "this API key" in refused["detail"]) == ("limit_reached", True)
        await api.call("DELETE", path, 204)
        await subscribed(api, url="https://my.app/4")


async def test_pausing_holds_deliveries_and_resuming_makes_them_due(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        path = f"/v1/subscribers/{(await subscribed(api))['id']}"
        await finished_job(api)
        assert (await api.post(f"{path}/pause", 200))["status"] == "paused"
        (held,) = (await api.get("/v1/deliveries?status=held"))["data"]
        assert held["next_attempt_at"] is None
        assert (await api.post(f"{path}/resume", 200))["status"] == "active"
        (flowing,) = (await api.get("/v1/deliveries?status=pending"))["data"]
        assert (flowing["id"], bool(flowing["next_attempt_at"])) == (held["id"], True)


async def test_the_deliveries_of_a_deleted_subscriber_are_dead(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        path = f"/v1/subscribers/{(await subscribed(api))['id']}"
        await finished_job(api)
        await api.call("DELETE", path, 204)
        await api.get(path, 404)
        (dead,) = (await api.get("/v1/deliveries"))["data"]
        assert (dead["status"], dead["last_error"]) == ("dead", "subscriber_deleted")
        await api.post(f"/v1/deliveries/{dead['id']}/retry", 409)


async def test_a_test_event_goes_to_that_subscriber_alone(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made, _ = await subscribed(api), await subscribed(api, types=["*"])
        sent = await api.post(f"/v1/subscribers/{made['id']}/test", 202)
        (owed,) = (await api.get(f"/v1/deliveries?event={sent['id']}"))["data"]
        assert (owed["subscriber"], owed["event_type"], owed["job"]) == (
            made["id"],
            "subscriber.test",
            None,
        )


async def test_both_secrets_sign_during_the_grace_period(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api)
        path = f"/v1/subscribers/{made['id']}/rotate-secret"
        rotated = await api.post(path, 200, {"grace_seconds": 60})
        assert rotated["secret"] not in ("", made["secret"])
        assert rotated["previous_expires_at"].startswith("2026-11-20T10:01:0")
        assert rotated["id"] == made["id"]
        await api.post(path, 422, {"grace_seconds": -1})
        slack = await subscribed(api, kind="slack", url="https://hooks.slack.com/x")
        await api.post(f"/v1/subscribers/{slack['id']}/rotate-secret", 409)


async def test_a_subscriber_that_is_deleted_while_its_secret_is_rotated_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    async def after_others(self: Store, run: Callable[..., Any], *args: Any) -> Any:
        if run is subscribers.rotate:
            await write(self, subscribers.remove, args[0], api.clock.now())
        return await write(self, run, *args)

    async with calling(tmp_path) as api:
        made = await subscribed(api)
        monkeypatch.setattr(Store, "write", after_others)
        await api.post(f"/v1/subscribers/{made['id']}/rotate-secret", 404)


async def test_what_subscribers_are_owed_is_counted_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.events.backlog.MOST", 1)
    async with calling(tmp_path) as api:
        idle = await subscribed(api, types=["job.canceled"])
        busy = await subscribed(api)
        for _ in range(4):
            await finished_job(api)
        first, second, third, _ = sorted(await api.rows("delivery"), key=lambda row: row["id"])
        for row, values in ((first, {"state": "dead", "due_at": None}),
                            (second, {"state": "held", "due_at": None})):  # fmt: skip
            await api.run(sa.update(delivery).where(delivery.c.id == row["id"]).values(**values))
        listed = (await api.get("/v1/subscribers?backlog=true"))["data"]
        none = {"pending": 0, "dead": 0, "next_due_at": None}
        owed = {"pending": 1, "dead": 1, "next_due_at": rfc3339(third["due_at"])}
        assert {one["id"]: one["backlog"] for one in listed} == {idle["id"]: none, busy["id"]: owed}
        path = f"/v1/subscribers/{busy['id']}"
        assert (await api.get(f"{path}?backlog=true"))["backlog"] == owed
        assert "backlog" not in await api.get(path)
        await api.get(f"{path}?backlog=perhaps", 422)
