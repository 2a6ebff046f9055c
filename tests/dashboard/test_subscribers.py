"""The pages of subscribers: health, actions, and secrets that are shown once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.fields import instant, number, pairs, words
from orchestrator.dashboard.receiver_health import any_moving, health_of
from orchestrator.dashboard.translations import catalogue
from orchestrator.database.tables import callback_address, delivery, subscriber
from orchestrator.events import destinations
from tests.api.test_support import submitted, subscribed
from tests.harness.fake_kinds import FAKES
from tests.harness.readers import Dashboard, dashboard
from tests.harness.runtime import START

HOSTILE = "<script>alert(1)</script>"
ACTIONS = [("test", "active"), ("pause", "paused"), ("resume", "active")]


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path) as found:
        yield found


async def test_hosts_of_callback_urls_have_a_list_of_their_own(pages: Dashboard) -> None:
    made = await subscribed(pages.api, description=HOSTILE)
    await submitted(pages.api, callback_url="https://their.app/done?key=hunter2")
    now = pages.api.clock.now()
    (host,) = (await pages.api.get("/v1/subscribers?callbacks=true"))["data"]
    broken = {
        "key": "k", "lane": host["id"], "failing_since": now, "failures": 3,
        "last_error": "status_500", "updated_at": now,
    }  # fmt: skip
    await pages.api.run(sa.insert(callback_address).values(**broken))
    async with pages.reader(Scope.READ) as reader:
        for query, shown in (
            ("", {made["id"], host["id"]}),
            ("?callbacks=false", {made["id"]}),
            ("?callbacks=true", {host["id"]}),
            ("?failing=true", {host["id"]}),
        ):
            raw = (await reader.http.get(f"/dashboard/subscribers{query}")).text
            found = {one for one in (made["id"], host["id"]) if f'<tr id="{one}"' in raw}
            assert found == shown, query
            assert HOSTILE not in raw
            assert "hunter2" not in raw
        text = await reader.see(f"/subscribers/{host['id']}")
        assert catalogue("en").text("fault.broken") in text
    async with pages.reader() as reader:
        text = await reader.see(f"/subscribers/{host['id']}")
        assert catalogue("en").text("subscriber.is_host") in text
        assert 'method="post" action="../../dashboard/subscribers' not in text
        await reader.send(f"/subscribers/{host['id']}/pause", 409)


async def test_a_backlog_is_counted_up_to_a_thousand(
    pages: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await subscribed(pages.api)
    await pages.api.post(f"/v1/subscribers/{made['id']}/test", 202)
    counts = {"pending": 1000, "dead": 999, "next_due_at": None}
    async with pages.reader(Scope.READ) as reader:
        assert "1 pending" in await reader.see("/subscribers")
        found = {made["id"]: counts}
        monkeypatch.setattr("orchestrator.api.subscribers.backlogs", lambda tx, ids: found)
        text = await reader.see("/subscribers?callbacks=false")
        assert "1,000+ pending" in text
        assert "999 dead" in text


async def test_a_subscriber_shows_what_it_is_owed_and_why_it_fails(pages: Dashboard) -> None:
    made, now = await subscribed(pages.api), pages.api.clock.now()
    path = f"/v1/subscribers/{made['id']}"
    for _ in range(2):
        await pages.api.post(f"{path}/test", 202)
    first, _ = await pages.api.rows("delivery")
    failed = sa.update(delivery).where(delivery.c.id == first["id"])
    await pages.api.run(failed.values(tries=1, last_error="status_503"))
    await pages.api.run(sa.update(subscriber).values(failing_since=now))
    counts = re.compile(r"<dt>(\w+)</dt><dd><a [^>]*><b>([^<]*)</b>")
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see(path.removeprefix("/v1"))
        assert dict(counts.findall(text)) == {"pending": "2", "held": "0", "dead": "0"}
        assert catalogue("en").text("fault.broken") in text
        assert catalogue("en").text("subscriber.still_active") in text
        gives_up = catalogue("en").text("subscriber.gives_up", attempts=10, span="3 d 3 h")
        assert gives_up in text
        await pages.api.post(f"{path}/pause", 200)
        text = await reader.see(path.removeprefix("/v1"))
        assert dict(counts.findall(text)) == {"pending": "0", "held": "2", "dead": "0"}


async def test_a_list_without_entries_says_what_to_do(pages: Dashboard) -> None:
    async with pages.reader(Scope.READ) as reader:
        text = await reader.see("/subscribers")
        assert catalogue("en").text("empty.subscribers") in text
        assert catalogue("en").text("empty.hosts") in text
        await reader.see("/subscribers?failing=perhaps", 422)
        await reader.see("/subscribers/sub_0", 404)


@pytest.mark.parametrize(("action", "status"), ACTIONS)
async def test_an_action_needs_a_key_that_may_write(
    pages: Dashboard, action: str, status: str
) -> None:
    made = await subscribed(pages.api)
    path = f"/subscribers/{made['id']}"
    if action == "resume":
        await pages.api.post(f"/v1{path}/pause", 200)
    before = await pages.api.get(f"/v1{path}")
    async with pages.reader(Scope.READ) as reader:
        assert f"{path}/{action}" not in await reader.see(path)
        await reader.send(f"{path}/{action}", 403)
        assert await pages.api.get(f"/v1{path}") == before
    async with pages.reader(Scope.WRITE) as reader:
        assert f"{path}/{action}" in await reader.see(path)
        text = await reader.send(f"{path}/{action}")
        assert catalogue("en").text(f"notice.subscriber.{action}.done") in text
        assert (await pages.api.get(f"/v1{path}"))["status"] == status
        assert ("subscriber.test" in text) == (action == "test")
        await reader.send(f"{path}/explode", 404)


async def test_a_subscriber_is_deleted(pages: Dashboard) -> None:
    made = await subscribed(pages.api)
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send(f"/subscribers/{made['id']}/delete")
        assert catalogue("en").text("notice.subscriber.delete.done") in text
    await pages.api.get(f"/v1/subscribers/{made['id']}", 404)


async def test_a_rotated_secret_is_shown_once(pages: Dashboard) -> None:
    made = await subscribed(pages.api)
    path = f"/subscribers/{made['id']}"
    async with pages.reader(Scope.READ) as reader:
        await reader.send(f"{path}/rotate", 403)
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send(f"{path}/rotate", grace_seconds="3600")
        assert "whsec_" in text
        assert made["secret"] not in text
        # The end of the overlap, an hour after the clock of the test began.
        assert "2026-11-20 11:00:0" in text
        assert "whsec_" not in (await reader.see(path)).replace("whsec_.", "")
        await reader.send(f"{path}/rotate", 422, grace_seconds="-1")
        await reader.send(f"{path}/rotate", 422, grace_seconds=HOSTILE)
        slack = await subscribed(pages.api, kind="slack", url="https://hooks.slack.com/x")
        assert "/rotate" not in await reader.see(f"/subscribers/{slack['id']}")
        await reader.send(f"/subscribers/{slack['id']}/rotate", 409)


async def test_a_form_creates_a_subscriber_and_shows_its_secret(pages: Dashboard) -> None:
    form = {
        "url": "https://my.app/hook", "kind": "webhook", "types": "job.*, subscriber.disabled",
        "description": "the shop", "max_in_flight": "3", "rate_limit": "2.5",
        "headers": "Authorization: Bearer hunter2\r\n\r\nx-a: b:c",
        "option.format": "cloudevents",
    }  # fmt: skip
    async with pages.reader(Scope.READ) as reader:
        await reader.see("/subscribers/new", 403)
        await reader.send("/subscribers", 403, **form)
    async with pages.reader(Scope.WRITE) as reader:
        await reader.see("/subscribers/new")
        text = await reader.send("/subscribers", **form)
        (made,) = (await pages.api.get("/v1/subscribers"))["data"]
        assert "whsec_" in text
        assert f"dashboard/subscribers/{made['id']}" in text
        assert "hunter2" not in text
        assert (made["types"], made["max_in_flight"], made["rate_limit"], made["options"]) == (
            ["job.*", "subscriber.disabled"], 3, 2.5, {"format": "cloudevents"}
        )  # fmt: skip
        (row,) = await pages.api.rows("subscriber")
        headers = pages.api.runtime.keys.decrypt(row["headers"])
        assert '"x-a": "b:c"' in headers
        slack = {"url": "https://hooks.slack.com/services/x", "kind": "slack"}
        text = await reader.send("/subscribers", **slack)
        assert catalogue("en").text("notice.subscriber.create.done") in text


@pytest.mark.parametrize(
    ("fault", "pointer"),
    [
        ({"url": "ftp://my.app"}, "/url"),
        ({"kind": HOSTILE}, "/kind"),
        ({"types": "jobs.*"}, "/types/0"),
        ({"max_in_flight": "many"}, "/max_in_flight"),
        ({"headers": "Host: elsewhere"}, "/headers"),
        ({"option.format": "xml"}, "/options/format"),
    ],
)
async def test_a_form_that_is_refused_keeps_what_was_typed(
    pages: Dashboard, fault: dict[str, str], pointer: str
) -> None:
    typed = {"url": "https://my.app/hook", "description": f"{HOSTILE} mine", **fault}
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.send("/subscribers", 422, **typed)
        assert pointer in text
        assert f'value="{typed["description"]}"' in text
        assert await pages.api.rows("subscriber") == []


async def test_the_form_has_the_fields_of_the_chosen_kind(pages: Dashboard) -> None:
    pages.api.runtime.destinations = {**destinations.load(), **FAKES}
    async with pages.reader(Scope.WRITE) as reader:
        text = await reader.see("/subscribers/new?kind=chat")
        assert 'name="option.room" required' in text
        assert re.search(r'name="credential.token" type="password"[^>]* required', text)
        assert "The bot's token." in text
        assert 'name="credential' not in await reader.see("/subscribers/new")
        # An unknown one has no fields, and is refused by the API.
        await reader.see("/subscribers/new?kind=nothing")
        typed = {"url": "https://chat.example.com", "kind": "chat", "option.room": "ops"}
        text = await reader.send("/subscribers", 422, **typed)
        assert 'id="c-token-fault">chat needs it: The bot\'s token.' in text
        assert 'aria-describedby="c-token-fault"' in text
        assert 'value="ops"' in text
        await reader.send("/subscribers", **typed, **{"credential.token": "hunter2"})
        (made,) = (await pages.api.get("/v1/subscribers"))["data"]
        assert (made["options"], made["credentials"]) == ({"room": "ops"}, ["token"])
        text = await reader.see(f"/subscribers/{made['id']}")
        assert f"<code>token</code> {catalogue('en').text('subscriber.credentials.set')}" in (
            text.replace('<span class="quiet">', "")
        )
        assert "hunter2" not in text


async def test_a_form_changes_what_differs_and_keeps_secrets(pages: Dashboard) -> None:
    pages.api.runtime.destinations = {**destinations.load(), **FAKES}
    secrets = {"username": "me", "password": "hunter2"}
    made = await subscribed(
        pages.api, kind="queue", url="queue://broker.example.com/q", rate_limit=2,
        description="the shop", options={"maxlen": "9"}, credentials=secrets,
    )  # fmt: skip
    path = f"/subscribers/{made['id']}"
    async with pages.reader(Scope.READ) as reader:
        assert f"{path}/edit" not in await reader.see(path)
        await reader.see(f"{path}/edit", 403)
        await reader.send(f"{path}/edit", 403, types="*")
    async with pages.reader(Scope.WRITE) as reader:
        assert f"{path}/edit" in await reader.see(path)
        text = await reader.see(f"{path}/edit")
        assert "hunter2" not in text
        same = {
            "types": ", ".join(made["types"]), "description": "the shop", "option.maxlen": "9",
            "max_in_flight": str(made["max_in_flight"]), "rate_limit": "2",
        }  # fmt: skip
        assert all(f'value="{value}"' in text for value in same.values())
        text = await reader.send(f"{path}/edit", **same)
        assert catalogue("en").text("notice.subscriber.change.done") in text
        assert await pages.api.get(f"/v1{path}") == {
            name: value for name, value in made.items() if name != "secret"
        }
        await reader.send(f"{path}/edit", **same | {"description": "", "rate_limit": ""})
        await reader.send(f"{path}/edit", types="job.*", **{"credential.password": "other"})
        now = await pages.api.get(f"/v1{path}")
        assert (now["types"], now["description"], now["rate_limit"], now["options"]) == (
            ["job.*"], "", None, {}
        )  # fmt: skip
        assert now["credentials"] == ["password"]
        text = await reader.send(f"{path}/edit", 422, url="queue://10.0.0.7/q")
        assert 'id="f-url-fault">10.0.0.7 is not a public address' in text
        text = await reader.send(f"{path}/edit", url="queue://other.example.com/q")
        assert catalogue("en").text("notice.subscriber.change.dropped") in text
        await reader.send(f"{path}/edit", **{"credential.username": "me"})
        await reader.send(f"{path}/edit", **{"drop.credentials": "yes"})
        assert (await pages.api.get(f"/v1{path}"))["credentials"] == []


def delivered(seconds: float) -> dict[str, Any]:
    """Return a delivery that took so many seconds."""
    done = f"2026-11-20T10:00:0{seconds:.3f}Z"
    created = "2026-11-20T10:00:00.000Z"
    return {"status": "delivered", "created_at": created, "done_at": done, "waiting": None}


def test_the_health_of_a_subscriber_is_read_from_its_newest_deliveries() -> None:
    dead = {**delivered(9), "status": "dead"}
    pending = {**delivered(0), "status": "pending", "done_at": None}
    found = health_of([delivered(1), delivered(2), delivered(6), dead, pending])
    assert (found.total, found.ended, found.rate) == (5, 4, "75.0%")
    assert (found.usual, found.longest) == (2.0, 6.0)
    nothing = health_of([])
    assert (nothing.total, nothing.rate, nothing.usual) == (0, "", None)


@pytest.mark.parametrize(
    ("waiting", "moves"),
    [
        (None, False),
        ({"reason": "queued", "until": None}, True),
        ({"reason": "paused", "until": None}, False),
        ({"reason": "scheduled", "until": "2026-11-20T10:00:44Z"}, True),
        ({"reason": "scheduled", "until": "2026-11-20T10:05:00Z"}, False),
    ],
)
def test_an_attempt_that_is_near_is_looked_for(waiting: object, moves: bool) -> None:
    assert any_moving([{"waiting": waiting}], START) is moves


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (number("12"), 12), (number("2.5"), 2.5), (number("many"), "many"),
        (instant("2026-11-20T10:00"), "2026-11-20T10:00:00Z"),
        (instant("2026-11-20T10:00:01"), "2026-11-20T10:00:01Z"),
        (instant("2026-11-20T10:00:00+08:00"), "2026-11-20T10:00:00+08:00"),
        (instant("yesterday"), "yesterday"),
        (words(" job.*,account.* x"), ["job.*", "account.*", "x"]),
        (pairs("a = 1\n\n b=c=d\nalone", "="), {"a": "1", "b": "c=d", "alone": ""}),
    ],
)  # fmt: skip
def test_fields_of_forms_are_values_of_the_api(read: object, value: object) -> None:
    assert read == value
