"""The callback endpoint: the order of its checks, and 503 for every error of the service itself."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from orchestrator.api import callbacks
from orchestrator.api.callbacks import CallbackEndpoint
from orchestrator.app import callback_endpoint
from orchestrator.database.store import Tx
from orchestrator.database.tables import push
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine.receive import CAP
from orchestrator.foundation import logs
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from orchestrator.foundation.states import JobState
from orchestrator.vendors.dialects.agentsflare import AgentsFlare
from orchestrator.vendors.report import Report
from tests.harness.engine import at_vendor, legacy_task
from tests.harness.openapi_contract import CONTRACT_HOOKS
from tests.harness.runtime import Harness, open_harness

SECRET = new_secret()
ACCOUNTS: dict[str, dict[str, Any]] = {
    "main": {"vendor": "agentsflare", "api_key": "k"},
    "other": {"vendor": "agentsflare", "api_key": "k"},
    "optional": {
        "vendor": "kling",
        "api_key": "k",
        "signature": "optional",
        "webhook_secrets": [SECRET],
    },
    "required": {
        "vendor": "kling",
        "api_key": "k",
        "signature": "required",
        "webhook_secrets": [SECRET],
    },
}
DONE = json.dumps(legacy_task("t-1", "succeed")).encode()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand in for the application behind the endpoint."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def endpoint(h: Harness) -> CallbackEndpoint:
    return callback_endpoint(application, h.runtime)


class Rig:
    """A runtime, a client of its callback endpoint, and one job of every account."""

    def __init__(self, h: Harness, client: httpx.AsyncClient, jobs: dict[str, JobRow]) -> None:
        self.h = h
        self.client = client
        self.jobs = jobs

    def path(
        self,
        account: str = "main",
        *,
        of: str | None = None,
        keys: Keys | None = None,
        days: float = 8,
    ) -> str:
        """Return the path of a callback; `of` mints its token for another account."""
        job = self.jobs[account]
        expires = job["created_at"] + (job["deadline_at"] - job["created_at"]) * days
        token = (keys or self.h.runtime.keys).mint(of or account, Callback(job["id"], 1), expires)
        return f"/callbacks/{account}/{token}"

    async def post(self, path: str, body: Any = DONE, **values: Any) -> httpx.Response:
        return await self.client.post(path, content=body, **values)

    async def state(self, account: str = "main") -> str:
        return str((await self.h.job(self.jobs[account]["id"]))["state"])


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_harness(tmp_path, accounts=ACCOUNTS) as h:
        jobs = {name: await at_vendor(h, name) for name in ACCOUNTS}
        transport = httpx.ASGITransport(endpoint(h))
        async with httpx.AsyncClient(
            transport=transport, base_url="https://hooks.example.com", event_hooks=CONTRACT_HOOKS
        ) as client:
            yield Rig(h, client, jobs)


async def test_a_push_is_acknowledged_after_its_commit(rig: Rig) -> None:
    response = await rig.post(rig.path())
    assert (response.status_code, response.json()) == (200, {"ok": True})
    assert await rig.state() == JobState.SUCCEEDED


async def test_a_repeated_push_is_acknowledged_too(rig: Rig) -> None:
    responses = [await rig.post(rig.path()) for _ in range(5)]
    assert {response.status_code for response in responses} == {200}
    (kept,) = await rig.h.rows(push)
    assert kept["copies"] == 5


async def test_other_paths_go_to_the_application(rig: Rig) -> None:
    for path in ("/", "/callbacks", "/v1/jobs", "/Callbacks/main/x", "/x/callbacks/main/y"):
        assert (await rig.client.post(path)).status_code == 418


# -- the checks, in their order


async def test_slashes_that_a_vendor_doubles_or_appends_change_nothing(rig: Rig) -> None:
    account, token = rig.path().removeprefix("/callbacks/").split("/")
    good = (
        f"/callbacks/{account}/{token}/", f"/callbacks/{account}/{token}//",
        f"/callbacks/{account}/{token}%2F", f"//callbacks//{account}//{token}/?a=b",
    )  # fmt: skip
    bad = (f"/callbacks/{account}/x/{token}", f"/callbacks/{account}{token}/", "/callbacks//")
    transport = httpx.ASGITransport(endpoint(rig.h))
    # The paths are those of the document and more, so its hooks do not fit.
    async with httpx.AsyncClient(transport=transport, base_url="https://hooks.example.com") as http:
        for path, status in [*dict.fromkeys(good, 200).items(), *dict.fromkeys(bad, 404).items()]:
            url = f"https://hooks.example.com{path}"
            assert (await http.post(url, content=DONE)).status_code == status, path
            assert (await http.get(url)).status_code == 405, path
    (stored,) = await rig.h.rows(push)
    assert stored["copies"] == len(good)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_method_is_checked_first(rig: Rig, method: str) -> None:
    for path in (rig.path(), "/callbacks/main/forged", "/callbacks/"):
        response = await rig.client.request(method, path, content=b"x" * 10)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_every_bad_token_gets_the_same_response(rig: Rig) -> None:
    good = rig.path()
    forged = Keys(["another-key-" + "x" * 32])
    paths = [
        "/callbacks/", "/callbacks/main", "/callbacks/main/", "/callbacks//x", "/callbacks/main/x",
        good + "/x", good + "x", good[:-1], good.replace("main", "other"), rig.path(of="other"),
        rig.path(keys=forged), rig.path(days=-1), good.replace("/main/", "/nobody/"),
        "/callbacks/nobody/x", "/callbacks/main/" + "x" * 999, "/callbacks/%00/%ff%fe",
        "/callbacks/main/..%2f..%2fx",
    ]  # fmt: skip
    responses = [await rig.post(path) for path in paths]
    assert {response.status_code for response in responses} == {404}
    assert (
        len({(response.content, tuple(sorted(response.headers.items()))) for response in responses})
        == 1
    )
    assert await rig.state() == JobState.SUBMITTED
    assert await rig.h.rows(push) == []


async def test_the_token_is_checked_before_the_size(rig: Rig) -> None:
    assert (await rig.post("/callbacks/main/forged", b"x" * (CAP + 1))).status_code == 404


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


async def test_the_size_is_checked_before_the_signature(rig: Rig) -> None:
    path = rig.path("required")
    assert (await rig.post(path, b" " * (CAP + 1))).status_code == 413
    assert (await rig.post(path, chunks(1 << 16, 17))).status_code == 413
    assert (await rig.post(path, b"", headers={"content-length": "9" * 30})).status_code == 413


async def test_a_body_at_the_cap_is_accepted_whole_or_in_chunks(rig: Rig) -> None:
    body = DONE + b" " * (CAP - len(DONE))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, CAP, 1 << 16):
            yield body[start : start + (1 << 16)]

    assert (await rig.post(rig.path(), body)).status_code == 200
    assert (await rig.post(rig.path("other"), pieces())).status_code == 200
    assert await rig.state("other") == JobState.SUCCEEDED


async def test_no_more_than_the_cap_is_read_from_the_connection(rig: Rig) -> None:
    sent_chunks = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent_chunks
        while True:
            sent_chunks += 1
            yield b" " * (1 << 16)

    assert (await rig.post(rig.path(), endless())).status_code == 413
    assert sent_chunks <= (CAP >> 16) + 1


@pytest.mark.parametrize(
    ("account", "kind", "status"),
    [
        ("required", "absent", 401), ("required", "wrong", 401), ("required", "right", 200),
        ("optional", "absent", 200), ("optional", "wrong", 401), ("optional", "right", 200),
        ("main", "wrong", 200),
    ],
)  # fmt: skip
async def test_the_signature_policy_of_the_account_is_applied(
    rig: Rig, account: str, kind: str, status: int
) -> None:
    key = SECRET if kind == "right" else new_secret()
    headers = {} if kind == "absent" else sign([key], "msg_1", rig.h.clock.now(), DONE)
    response = await rig.post(rig.path(account), headers=headers)
    assert response.status_code == status
    assert await rig.state(account) == (JobState.SUCCEEDED if status == 200 else JobState.SUBMITTED)


async def test_a_stale_signature_is_refused(rig: Rig) -> None:
    headers = sign([SECRET], "msg_1", rig.h.clock.now(), DONE)
    rig.h.clock.advance(301)
    assert (await rig.post(rig.path("required"), headers=headers)).status_code == 401


async def test_the_signature_is_checked_before_the_json(rig: Rig) -> None:
    assert (await rig.post(rig.path("required"), b"not json")).status_code == 401
    headers = sign([SECRET], "msg_1", rig.h.clock.now(), b"not json")
    assert (await rig.post(rig.path("required"), b"not json", headers=headers)).status_code == 400


async def test_a_repeated_header_does_not_bypass_the_signature(rig: Rig) -> None:
    right = sign([SECRET], "msg_1", rig.h.clock.now(), DONE)
    twice = [*right.items(), ("webhook-id", "msg_2")]
    assert (await rig.post(rig.path("required"), headers=twice)).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"hello", 400), (b"{", 400), (b"NaN", 400), (b"{}", 200), (b"[]", 200),
     (b"null", 200), (b'{"task_status":"dreaming"}', 200), (b'{"task_status":"succeed"}', 200)],
)  # fmt: skip
async def test_any_json_is_acknowledged(rig: Rig, body: bytes, status: int) -> None:
    assert (await rig.post(rig.path(), body)).status_code == status


async def test_an_unreadable_push_makes_a_status_query_due(rig: Rig) -> None:
    await rig.post(rig.path(), b"{}")
    assert (await rig.h.job(rig.jobs["main"]["id"]))["due_at"] == rig.h.clock.now()


async def test_refusals_are_problem_details_without_secrets(rig: Rig) -> None:
    path = rig.path("required")
    for response in (
        await rig.client.get(path),
        await rig.post(path),
        await rig.post("/callbacks/a/b"),
    ):
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
        assert not {"whsec_", path.rpartition("/")[2]} & set(response.text.split())


# -- errors of the service


async def test_a_full_disk_is_503_with_retry_after(rig: Rig) -> None:
    def fill(tx: Tx) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")

    await rig.h.runtime.store.write(fill)
    response = await rig.post(rig.path(), DONE + b" " * 500_000)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert await rig.state() == JobState.SUBMITTED
    assert (await rig.post(rig.path("required"), DONE + b" " * 500_000)).status_code == 401, (
        "the sender's error comes first"
    )
    await rig.h.runtime.store.write(
        lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 1000000") and None
    )
    assert (await rig.post(rig.path(), DONE + b" " * 500_000)).status_code == 200
    assert await rig.state() == JobState.SUCCEEDED


class Broken(AgentsFlare):
    """A vendor module with a bug."""

    def read_push(self, body: bytes) -> list[Report]:
        raise ZeroDivisionError("a bug")


def break_vendor(rig: Rig) -> None:
    vendors = rig.h.runtime.vendors
    assert isinstance(vendors, dict)
    vendors["main"] = Broken(vendors["main"].account, rig.h.clock)


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Log as the service does, for one test, and let it be read."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("json")
    yield capsys
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_an_internal_error_is_503_and_is_logged_without_the_token(
    rig: Rig, logged: pytest.CaptureFixture[str]
) -> None:
    break_vendor(rig)
    path = rig.path()
    response = await rig.post(path)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    written = logged.readouterr().err
    assert "ZeroDivisionError" in written
    assert path.rpartition("/")[2] not in written
    assert "a bug" not in response.text


async def test_no_token_is_logged(rig: Rig) -> None:
    paths = [rig.path(), rig.path("required"), rig.path(of="other"), rig.path(days=-1)]
    with structlog.testing.capture_logs() as logged:
        for path in paths:
            for body in (DONE, b"{}", b"hello", b" " * (CAP + 1)):
                await rig.post(path, body)
    assert not [path for path in paths if path.rpartition("/")[2] in repr(logged)]


async def test_a_refused_callback_is_logged_with_its_account_and_the_address_of_its_sender(
    rig: Rig,
) -> None:
    with structlog.testing.capture_logs() as logged:
        await rig.post(rig.path(of="other"))
        await rig.post(rig.path("required"))
    logged = [line for line in logged if line["event"] in ("callback refused", "push rejected")]
    assert [(line["event"], line["account"], line["peer"]) for line in logged] == [
        ("callback refused", "main", "127.0.0.1"),
        ("push rejected", "required", "127.0.0.1"),
    ]


# -- slow and broken senders


class Raw:
    """One request at the level of ASGI: the messages that the endpoint sends."""

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]], method: str = "POST") -> None:
        self.scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers}
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, h: Harness, *messages: Message) -> int | None:
        """Return the status, or None. After the messages the sender is silent."""
        waiting = iter(messages)

        async def receive() -> Message:
            message = next(waiting, None)
            if message is None:
                await asyncio.get_running_loop().create_future()
            assert message is not None
            return message

        await endpoint(h)(self.scope, receive, self.send)
        return next((message["status"] for message in self.sent if "status" in message), None)


async def test_a_sender_that_disconnects_gets_no_response(rig: Rig) -> None:
    path, gone = rig.path(), {"type": "http.disconnect"}
    assert await Raw(path, []).run(rig.h, gone) is None
    assert (
        await Raw(path, []).run(
            rig.h, {"type": "http.request", "body": DONE, "more_body": True}, gone
        )
        is None
    )
    assert await rig.state() == JobState.SUBMITTED


@pytest.mark.parametrize("begun", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
async def test_a_sender_that_is_too_slow_gets_408(
    rig: Rig, begun: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "BODY_DEADLINE", 0.02)
    assert await Raw(rig.path(), []).run(rig.h, *begun) == 408


async def test_a_request_without_a_body_field_is_empty(rig: Rig) -> None:
    assert await Raw(rig.path(), []).run(rig.h, {"type": "http.request"}) == 400


# -- fuzzing

HEADER = st.tuples(
    st.sampled_from(
        [b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"content-type", b"x"]
    ),
    st.binary(max_size=40),
)
WORDS = st.sampled_from([
    "task_id", "task_status", "task_result", "task_info", "videos", "url", "status", "id", "data",
    "code", "outputs", "object", "job", "output", "error", "fail_reason", "progress", "metadata",
    "succeed", "processing", "updated_at",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner,
    max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=6),
    max_leaves=8,
)  # fmt: skip
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
REQUESTS = st.tuples(st.sampled_from(sorted(ACCOUNTS)), st.lists(HEADER, max_size=5), BODIES)
PATHS = st.text(max_size=60).map(lambda text: "/callbacks/" + text)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[asyncio.Runner, Harness, dict[str, Any]]]:
    """A runtime with a job of every account for all examples, and the loop that it runs on."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        opened = open_harness(Path(folder), accounts=ACCOUNTS)
        h = runner.run(opened.__aenter__())
        yield runner, h, {name: runner.run(at_vendor(h, name)) for name in ACCOUNTS}
        runner.run(opened.__aexit__(None, None, None))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    requests=st.lists(REQUESTS, min_size=4, max_size=8),
    paths=st.lists(PATHS, min_size=1, max_size=4),
)
def test_no_request_causes_a_server_error(
    shared: tuple[asyncio.Runner, Harness, dict[str, Any]], requests: list[Any], paths: list[str]
) -> None:
    runner, h, jobs = shared

    async def send_all() -> None:
        for account, headers, body in requests:
            job = jobs[account]
            token = h.runtime.keys.mint(account, Callback(job["id"], 1), job["deadline_at"])
            request = Raw(f"/callbacks/{account}/{token}", headers)
            status = await request.run(h, {"type": "http.request", "body": body})
            assert status in (200, 400, 401)
        for path in paths:
            assert await Raw(path, []).run(h, {"type": "http.request", "body": b"{}"}) == 404

    runner.run(send_all())
