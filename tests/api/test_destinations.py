"""Kinds of subscribers over HTTP: their addresses, options and credentials."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.api import subscriber_checks as checks
from orchestrator.database.store import Tx
from orchestrator.events import destinations, subscribers
from orchestrator.events.subscriber_secrets import address_columns
from orchestrator.foundation import addresses, extras
from tests.api.test_support import Caller, calling, finished_job
from tests.harness.fake_kinds import FAKES

QUEUE = {"url": "queue://broker.example.com:4222/renders"}
CHAT = {
    "url": "https://chat.example.com",
    "options": {"room": "ops"},
    "credentials": {"token": "hunter2"},
}


@contextlib.asynccontextmanager
async def with_fakes(folder: Path, **settings: Any) -> AsyncIterator[Caller]:
    """Yield a caller of an API that has the fake kinds too."""
    async with calling(folder, **settings) as api:
        api.runtime.destinations = {**destinations.load(), **FAKES}
        yield api


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Caller]:
    async with with_fakes(tmp_path) as found:
        yield found


async def made(api: Caller, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = await api.post("/v1/subscribers", 201, body)
    return found


async def faults(api: Caller, **body: Any) -> list[tuple[str, str]]:
    """Return the pointers and codes of a refused subscriber."""
    refused = await api.post("/v1/subscribers", 422, body)
    assert "hunter2" not in str(refused)
    return [(fault["pointer"], fault["code"]) for fault in refused["errors"]]


async def test_every_kind_is_listed_with_what_it_takes(api: Caller) -> None:
    listed = await api.get("/v1/destinations")
    kinds = {one["kind"]: one for one in listed["data"]}
    assert list(kinds) == sorted(api.runtime.destinations)
    assert kinds["webhook"]["options"]["format"]["choices"] == ["standard", "cloudevents"]
    assert (kinds["webhook"]["signed"], kinds["slack"]["secret_address"]) == (True, True)
    assert kinds["chat"]["credentials"]["token"] == {
        "description": "The bot's token.", "required": True, "choices": [],
        "pattern": "[a-z0-9]{1,64}",
    }  # fmt: skip
    assert (kinds["catchall"]["extra"], kinds["catchall"]["installed"]) == ("demo", True)
    assert {one["origin"] for one in kinds.values()} == {"built-in"}
    first = await api.get("/v1/destinations?limit=1")
    rest = await api.get(f"/v1/destinations?after={first['next_cursor']}")
    assert [one["kind"] for one in (*first["data"], *rest["data"])] == list(kinds)


@pytest.mark.parametrize("kind", sorted(destinations.load()))
async def test_the_example_of_every_kind_is_an_address_of_it(
    api: Caller, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = destinations.load()[kind]
    # Some also look at the settings.
    monkeypatch.setattr(type(found), "check_address", lambda self, address: None)
    chosen, url = checks.choose(api.runtime.destinations, kind, found.example)
    checks.check_address(api.runtime.address_policy, chosen, url)
    assert chosen is found
    if not addresses.is_web(url):
        assert checks.choose(destinations.load(), None, url) == (found, url)


@pytest.mark.parametrize(
    ("body", "kind", "shown"),
    [
        ({"url": "https://my.app/hook"}, "webhook", "https://my.app/hook"),
        (CHAT, "chat", "https://chat.example.com/…"),
        (CHAT | {"url": "chat:https://bots.my.app/x"}, "chat", "https://bots.my.app/…"),
        ({"url": "webhook:https://chat.example.com/x"}, "webhook", "https://chat.example.com/x"),
        (QUEUE, "queue", QUEUE["url"]),
        (
            {"url": "queue://me@A.example.com,b.example.com:4223/q?stream=s"},
            "queue",
            "queue://a.example.com,b.example.com:4223/q?stream=s",
        ),
        ({"url": "queues://broker.example.com/q", "kind": "queue"}, "queue", None),
    ],
)
async def test_a_kind_is_inferred_where_the_address_is_unmistakable(
    api: Caller, body: dict[str, Any], kind: str, shown: str | None
) -> None:
    found = await made(api, **body)
    assert found["kind"] == kind
    assert shown in (None, found["url"])
    assert found["max_in_flight"] == api.runtime.destinations[kind].max_in_flight


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"url": "gopher://my.app/x"}, ("/url", "unknown_scheme")),
        ({"url": "queues://my.app/x"}, ("/kind", "missing")),
        ({"url": "my.app/hook"}, ("/url", "unknown_scheme")),
        ({"url": "https://[x/hook"}, ("/url", "blocked_address")),
        ({"url": "https://my.app/hook", "kind": "queue"}, ("/url", "wrong_scheme")),
        ({"url": "queue://my.app/q", "kind": "webhook"}, ("/url", "wrong_scheme")),
        ({"url": "chat:https://my.app", "kind": "webhook"}, ("/url", "wrong_scheme")),
        ({"url": "queue://my.app"}, ("/url", "invalid_address")),
        ({"url": "queue:///q"}, ("/url", "invalid_address")),
        ({"url": "queue://my.app:99999/q"}, ("/url", "invalid_address")),
        ({"url": "queue://my app/q"}, ("/url", "invalid_address")),
        ({"url": "queue://[::1/q"}, ("/url", "invalid_address")),
        ({"url": "queue://[1.2:3]:4/q"}, ("/url", "invalid_address")),
        ({"url": "queue://b\u00fccher.example/q"}, ("/url", "invalid_address")),
        ({"url": "queue://127.0.0.1:4222/q"}, ("/url", "blocked_address")),
        ({"url": "queue://my.app,10.0.0.7:4222/q"}, ("/url", "blocked_address")),
        ({"url": "queue://[::ffff:10.0.0.7]/q"}, ("/url", "blocked_address")),
        ({"url": "queue://localhost/q"}, ("/url", "blocked_address")),
        ({"url": "queue://my.app:22/q"}, ("/url", "blocked_address")),
        ({"url": "queue://me:hunter2@my.app/q"}, ("/url", "secret_in_address")),
        ({"url": "queue://my.app/q?password=hunter2"}, ("/url", "secret_in_address")),
        ({"url": "https://me:hunter2@my.app/q"}, ("/url", "blocked_address")),
        ({"url": "http://chat.example.com"} | CHAT | {"url": "http://chat.example.com"},
         ("/url", "https_required")),
    ],
)  # fmt: skip
async def test_an_address_that_cannot_be_is_refused(
    api: Caller, body: dict[str, Any], fault: tuple[str, str]
) -> None:
    assert await faults(api, **body) == [fault]
    assert await api.rows("subscriber") == []


async def test_a_port_of_a_broker_is_not_one_of_the_web(tmp_path: Path) -> None:
    async with with_fakes(tmp_path, allow_private=["10.0.0.0/8"]) as api:
        for url in ("queue://10.0.0.7:22/q", "queue://my.app:4222/q", "queue://my.app:587/q"):
            await made(api, url=url)
        await api.post("/v1/subscribers", 422, {"url": "queue://127.0.0.1/q"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"options": {}}, [("/options/room", "missing")]),
        ({"options": {"room": "OPS"}}, [("/options/room", "unknown_option")]),
        ({"options": {"room": "ops", "a/b": "x"}}, [("/options/a~1b", "unknown_option")]),
        ({"credentials": {}}, [("/credentials/token", "missing")]),
        ({"credentials": {"token": "hunter2!"}}, [("/credentials/token", "unknown_credential")]),
        (
            {"credentials": {"key": "hunter2", "secret": ""}},
            [
                ("/credentials/key", "unknown_credential"),
                ("/credentials/secret", "unknown_credential"),
                ("/credentials/token", "missing"),
            ],
        ),
        ({"credentials": {"token": 1}}, [("/credentials/token", "string_type")]),
    ],
)
async def test_options_and_credentials_are_those_of_the_kind(
    api: Caller, change: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert await faults(api, **CHAT | change) == expected


async def test_a_missing_library_names_what_to_install(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"url": "queues://my.app/q", "kind": "catchall"}
    await made(api, **body)
    monkeypatch.setitem(extras.EXTRAS, "demo", ("no_such_library",))
    refused = await api.post("/v1/subscribers", 422, body)
    assert refused["errors"][0]["pointer"] == "/kind"
    assert "pip install 'orchestrator[demo]'" in refused["detail"]
    listed = {one["kind"]: one for one in (await api.get("/v1/destinations"))["data"]}
    assert listed["catchall"]["installed"] is False


async def test_credentials_are_encrypted_replaced_whole_and_never_shown(api: Caller) -> None:
    both = CHAT | {"credentials": {"token": "hunter2", "secret": "opensesame"}}
    answers: list[Any] = [await made(api, **both)]
    assert answers[0]["credentials"] == ["secret", "token"]
    path = f"/v1/subscribers/{answers[0]['id']}"
    answers += [await api.get(path), await api.get("/v1/subscribers?backlog=true")]
    await api.post(f"{path}/test", 202)
    stored = [await api.rows(table) for table in ("subscriber", "event", "delivery")]
    assert "hunter2" not in str(stored) + str(answers)
    assert "opensesame" not in str(stored) + str(answers)
    one = {"credentials": {"token": "hunter3"}}
    assert (await api.call("PATCH", path, 200, one)).json()["credentials"] == ["token"]
    (row,) = await api.rows("subscriber")
    assert api.runtime.keys.decrypt(row["credentials"]) == '{"token": "hunter3"}'
    await api.call("PATCH", path, 422, {"credentials": {}})
    await api.call("PATCH", path, 422, {"options": {}})
    assert (await api.call("PATCH", path, 200, {"types": ["*"]})).json()["credentials"] == ["token"]


async def test_another_origin_does_not_get_the_credentials_of_the_last(api: Caller) -> None:
    secrets = {"username": "me", "password": "hunter2"}
    found = await made(api, **QUEUE, credentials=secrets)
    path = f"/v1/subscribers/{found['id']}"
    same = {"url": "queue://BROKER.example.com:4222/other"}
    moved = (await api.call("PATCH", path, 200, same)).json()
    assert (moved["credentials"], "dropped" in moved) == (["password", "username"], False)
    there = {"url": "queue://broker.example.com:4223/other"}
    moved = (await api.call("PATCH", path, 200, there)).json()
    assert (moved["credentials"], moved["dropped"]) == ([], ["credentials"])
    both = QUEUE | {"credentials": secrets}
    moved = (await api.call("PATCH", path, 200, both)).json()
    assert (moved["credentials"], "dropped" in moved) == (["password", "username"], False)
    chat = await made(api, **CHAT)
    away = {"url": "chat:https://bots.my.app"}
    refused = (await api.call("PATCH", f"/v1/subscribers/{chat['id']}", 422, away)).json()
    assert refused["errors"][0]["pointer"] == "/credentials/token"
    again = away | {"credentials": CHAT["credentials"]}
    await api.call("PATCH", f"/v1/subscribers/{chat['id']}", 200, again)


async def test_credentials_do_not_follow_an_address_that_was_changed_meanwhile(
    api: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other change comes between the reading of the subscriber and the writing of its row."""
    found = await made(api, **QUEUE)
    path, change = f"/v1/subscribers/{found['id']}", subscribers.change
    elsewhere = address_columns(
        api.runtime.keys, api.runtime.destinations["queue"], "queue://other.example.com:4222/x"
    )

    def late(tx: Tx, subscriber_id: str, *others: Any) -> Any:
        change(tx, subscriber_id, elsewhere)
        return change(tx, subscriber_id, *others)

    monkeypatch.setattr(subscribers, "change", late)
    await api.call("PATCH", path, 409, {"credentials": {"password": "hunter2"}})
    monkeypatch.undo()
    assert (await api.get(path))["credentials"] == []


async def test_the_request_of_a_delivery_shows_no_secret_of_its_kind(api: Caller) -> None:
    await made(api, **CHAT)
    await made(api, **QUEUE)
    await finished_job(api)
    seen = {}
    for one in (await api.get("/v1/deliveries"))["data"]:
        seen[one["host"]] = (await api.get(f"/v1/deliveries/{one['id']}"))["request"]
    sent = seen["broker.example.com:4222"]
    assert (sent["method"], sent["to"], sent["url"]) == ("PUBLISH", "renders", QUEUE["url"])
    assert sent["headers"]["id"].startswith("evt_")
    assert '"job.succeeded"' in sent["body"]
    assert "hunter2" not in str(seen)


async def test_credentials_without_their_key_are_not_named(api: Caller) -> None:
    found = await made(api, **CHAT)
    api.runtime.keys = type(api.runtime.keys)(["o" * 32])
    assert (await api.get(f"/v1/subscribers/{found['id']}"))["credentials"] is None
