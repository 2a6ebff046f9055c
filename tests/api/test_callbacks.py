"""The vendors' door: the order of its checks, one answer for every bad token, and never a fault of ours as theirs."""

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
from orchestrator.database.store import Tx
from orchestrator.database.tables import push
from orchestrator.engine.receive import CAP, Receiver
from orchestrator.foundation import logs
from orchestrator.foundation.admission import Admission
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from orchestrator.foundation.states import JobState
from orchestrator.vendors.dialects.agentsflare import AgentsFlare
from orchestrator.vendors.report import Report
from tests.harness.engine import at_vendor, legacy
from tests.harness.openapi_contract import HELD
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
DONE = json.dumps(legacy("t-1", "succeed")).encode()


async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand behind the door: everything that is no callback ends here."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def door(h: Harness) -> CallbackEndpoint:
    return CallbackEndpoint(elsewhere, h.runtime.assemble(Receiver), Admission(h.runtime.rng))


class Street:
    """A house, a client in front of its door, and one job of every account."""

    def __init__(
        self, h: Harness, client: httpx.AsyncClient, jobs: dict[str, dict[str, Any]]
    ) -> None:
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
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    async with open_harness(tmp_path, accounts=ACCOUNTS) as h:
        jobs = {name: await at_vendor(h, name) for name in ACCOUNTS}
        transport = httpx.ASGITransport(door(h))
        async with httpx.AsyncClient(
            transport=transport, base_url="https://hooks.example.com", event_hooks=HELD
        ) as client:
            yield Street(h, client, jobs)


async def test_a_push_is_acknowledged_after_its_commit(street: Street) -> None:
    answer = await street.post(street.path())
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert await street.state() == JobState.SUCCEEDED


async def test_a_repeat_is_acknowledged_all_the_same(street: Street) -> None:
    answers = [await street.post(street.path()) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    (kept,) = await street.h.rows(push)
    assert kept["copies"] == 5


async def test_whatever_is_no_callback_goes_to_the_application(street: Street) -> None:
    for path in ("/", "/callbacks", "/v1/jobs", "/Callbacks/main/x", "/x/callbacks/main/y"):
        assert (await street.client.post(path)).status_code == 418


# -- the checks, in their order


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_method_is_checked_before_everything(street: Street, method: str) -> None:
    for path in (street.path(), "/callbacks/main/forged", "/callbacks/"):
        answer = await street.client.request(method, path, content=b"x" * 10)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_every_bad_token_gets_one_and_the_same_answer(street: Street) -> None:
    good = street.path()
    forged = Keys(["another-key-" + "x" * 32])
    paths = [
        "/callbacks/", "/callbacks/main", "/callbacks/main/", "/callbacks//x", "/callbacks/main/x", good + "/",
        good + "x", good[:-1], good.replace("main", "other"), street.path(of="other"), street.path(keys=forged),
        street.path(days=-1), good.replace("/main/", "/nobody/"), "/callbacks/nobody/x", "/callbacks/main/" + "x" * 999,
        "/callbacks/%00/%ff%fe", "/callbacks/main/..%2f..%2fx", good.replace("/callbacks/", "/callbacks//"),
    ]  # fmt: skip
    answers = [await street.post(path) for path in paths]
    assert {answer.status_code for answer in answers} == {404}
    assert len({(answer.content, tuple(sorted(answer.headers.items()))) for answer in answers}) == 1
    assert await street.state() == JobState.SUBMITTED
    assert await street.h.rows(push) == []


async def test_the_token_is_checked_before_the_size(street: Street) -> None:
    assert (await street.post("/callbacks/main/forged", b"x" * (CAP + 1))).status_code == 404


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


async def test_a_body_over_the_cap_is_refused_before_the_signature_is_looked_at(
    street: Street,
) -> None:
    path = street.path("required")
    assert (await street.post(path, b" " * (CAP + 1))).status_code == 413
    assert (await street.post(path, chunks(1 << 16, 17))).status_code == 413
    assert (await street.post(path, b"", headers={"content-length": "9" * 30})).status_code == 413


async def test_a_body_at_the_cap_is_read_whole_or_in_pieces(street: Street) -> None:
    body = DONE + b" " * (CAP - len(DONE))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, CAP, 1 << 16):
            yield body[start : start + (1 << 16)]

    assert (await street.post(street.path(), body)).status_code == 200
    assert (await street.post(street.path("other"), pieces())).status_code == 200
    assert await street.state("other") == JobState.SUCCEEDED


async def test_no_more_than_the_cap_is_ever_taken_from_the_wire(street: Street) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b" " * (1 << 16)

    assert (await street.post(street.path(), endless())).status_code == 413
    assert taken <= (CAP >> 16) + 1


@pytest.mark.parametrize(
    ("account", "kind", "status"),
    [
        ("required", "absent", 401), ("required", "wrong", 401), ("required", "right", 200),
        ("optional", "absent", 200), ("optional", "wrong", 401), ("optional", "right", 200), ("main", "wrong", 200),
    ],
)  # fmt: skip
async def test_the_accounts_policy_says_what_a_signature_is_worth(
    street: Street, account: str, kind: str, status: int
) -> None:
    key = SECRET if kind == "right" else new_secret()
    headers = {} if kind == "absent" else sign([key], "msg_1", street.h.clock.now(), DONE)
    answer = await street.post(street.path(account), headers=headers)
    assert answer.status_code == status
    assert await street.state(account) == (
        JobState.SUCCEEDED if status == 200 else JobState.SUBMITTED
    )


async def test_a_stale_signature_is_refused(street: Street) -> None:
    headers = sign([SECRET], "msg_1", street.h.clock.now(), DONE)
    street.h.clock.advance(301)
    assert (await street.post(street.path("required"), headers=headers)).status_code == 401


async def test_the_signature_is_checked_before_the_json(street: Street) -> None:
    assert (await street.post(street.path("required"), b"not json")).status_code == 401
    headers = sign([SECRET], "msg_1", street.h.clock.now(), b"not json")
    assert (
        await street.post(street.path("required"), b"not json", headers=headers)
    ).status_code == 400


async def test_a_header_sent_twice_is_no_way_around_the_signature(street: Street) -> None:
    right = sign([SECRET], "msg_1", street.h.clock.now(), DONE)
    twice = [*right.items(), ("webhook-id", "msg_2")]
    assert (await street.post(street.path("required"), headers=twice)).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"hello", 400), (b"{", 400), (b"NaN", 400), (b"{}", 200), (b"[]", 200), (b"null", 200),
     (b'{"task_status":"dreaming"}', 200), (b'{"task_status":"succeed"}', 200)],
)  # fmt: skip
async def test_what_is_json_is_acknowledged_whatever_it_says(
    street: Street, body: bytes, status: int
) -> None:
    assert (await street.post(street.path(), body)).status_code == status


async def test_a_push_that_says_nothing_makes_the_job_due_for_a_question(street: Street) -> None:
    await street.post(street.path(), b"{}")
    assert (await street.h.job(street.jobs["main"]["id"]))["due_at"] == street.h.clock.now()


async def test_refusals_are_problem_details_that_name_no_secret(street: Street) -> None:
    path = street.path("required")
    for answer in (
        await street.client.get(path),
        await street.post(path),
        await street.post("/callbacks/a/b"),
    ):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert not {"whsec_", path.rpartition("/")[2]} & set(answer.text.split())


# -- our own trouble


async def test_a_full_disk_is_503_and_the_vendor_is_told_when_to_come_back(street: Street) -> None:
    def fill(tx: Tx) -> None:
        pages = tx.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")

    await street.h.runtime.store.write(fill)
    answer = await street.post(street.path(), DONE + b" " * 500_000)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert await street.state() == JobState.SUBMITTED
    assert (await street.post(street.path("required"), DONE + b" " * 500_000)).status_code == 401, (
        "still theirs"
    )
    await street.h.runtime.store.write(
        lambda tx: tx.exec_driver_sql("PRAGMA max_page_count = 1000000") and None
    )
    assert (await street.post(street.path(), DONE + b" " * 500_000)).status_code == 200
    assert await street.state() == JobState.SUCCEEDED


class Broken(AgentsFlare):
    """A vendor module with a bug."""

    def read_push(self, body: bytes) -> list[Report]:
        raise ZeroDivisionError("a bug")


def break_vendor(street: Street) -> None:
    vendors = street.h.runtime.vendors
    assert isinstance(vendors, dict)
    vendors["main"] = Broken(vendors["main"].account, street.h.clock)


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


async def test_a_bug_of_ours_is_503_and_is_logged_without_the_token(
    street: Street, logged: pytest.CaptureFixture[str]
) -> None:
    break_vendor(street)
    path = street.path()
    answer = await street.post(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    written = logged.readouterr().err
    assert "ZeroDivisionError" in written
    assert path.rpartition("/")[2] not in written
    assert "a bug" not in answer.text


async def test_an_ordinary_day_at_the_door_logs_no_token(street: Street) -> None:
    paths = [street.path(), street.path("required"), street.path(of="other"), street.path(days=-1)]
    with structlog.testing.capture_logs() as logged:
        for path in paths:
            for body in (DONE, b"{}", b"hello", b" " * (CAP + 1)):
                await street.post(path, body)
    assert not [path for path in paths if path.rpartition("/")[2] in repr(logged)]


# -- slow and broken senders


class Raw:
    """One request at the level of ASGI: what the door sends, for the messages it is given."""

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]], method: str = "POST") -> None:
        self.scope: Scope = {"type": "http", "method": method, "path": path, "headers": headers}
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, h: Harness, *messages: Message) -> int | None:
        """Return the status, or None if nothing was answered. After the last message the sender says no more."""
        waiting = iter(messages)

        async def receive() -> Message:
            message = next(waiting, None)
            if message is None:
                await asyncio.get_running_loop().create_future()
            assert message is not None
            return message

        await door(h)(self.scope, receive, self.send)
        return next((one["status"] for one in self.sent if "status" in one), None)


async def test_a_sender_that_hangs_up_is_not_answered(street: Street) -> None:
    path, gone = street.path(), {"type": "http.disconnect"}
    assert await Raw(path, []).run(street.h, gone) is None
    assert (
        await Raw(path, []).run(
            street.h, {"type": "http.request", "body": DONE, "more_body": True}, gone
        )
        is None
    )
    assert await street.state() == JobState.SUBMITTED


@pytest.mark.parametrize("begun", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
async def test_a_sender_that_takes_for_ever_is_let_go(
    street: Street, begun: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "BODY_DEADLINE", 0.02)
    assert await Raw(street.path(), []).run(street.h, *begun) == 408


async def test_a_request_without_a_body_message_of_its_own_is_empty(street: Street) -> None:
    assert await Raw(street.path(), []).run(street.h, {"type": "http.request"}) == 400


# -- anything at all

HEADER = st.tuples(
    st.sampled_from(
        [b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"content-type", b"x"]
    ),
    st.binary(max_size=40),
)
WORDS = st.sampled_from(
    ["task_id", "task_status", "task_result", "task_info", "videos", "url", "status", "id", "data", "code", "outputs",
     "object", "job", "output", "error", "fail_reason", "progress", "metadata", "succeed", "processing", "updated_at"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=6),
    max_leaves=20,
)  # fmt: skip
BODIES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
REQUESTS = st.tuples(st.sampled_from(sorted(ACCOUNTS)), st.lists(HEADER, max_size=5), BODIES)
PATHS = st.text(max_size=60).map(lambda text: "/callbacks/" + text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(REQUESTS, min_size=4, max_size=12), st.lists(PATHS, min_size=4, max_size=12))
def test_nothing_a_stranger_sends_is_our_trouble(requests: list[Any], paths: list[str]) -> None:
    async def send_all() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_harness(Path(folder), accounts=ACCOUNTS) as h:
                jobs = {name: await at_vendor(h, name) for name in ACCOUNTS}
                for account, headers, body in requests:
                    token = h.runtime.keys.mint(
                        account, Callback(jobs[account]["id"], 1), jobs[account]["deadline_at"]
                    )
                    request = Raw(f"/callbacks/{account}/{token}", headers)
                    assert await request.run(h, {"type": "http.request", "body": body}) in (
                        200,
                        400,
                        401,
                    )
                for path in paths:
                    assert (
                        await Raw(path, []).run(h, {"type": "http.request", "body": b"{}"}) == 404
                    )

    asyncio.run(send_all())
