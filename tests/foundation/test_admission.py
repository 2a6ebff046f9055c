"""Admission control: beyond its slots and bytes an endpoint answers 503 before memory grows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message

from orchestrator.api import callbacks, request_body
from orchestrator.api.auth.authenticator import Authenticator
from orchestrator.api.endpoint import Endpoint
from orchestrator.api.job_submission import JobSubmission
from orchestrator.app import callback_endpoint
from orchestrator.database.tables import job, push
from orchestrator.engine.receive import CAP
from orchestrator.foundation.admission import Admission, Limit, content_length
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.states import JobState
from tests.api.test_support import ADMIN, BODY
from tests.harness.api_caller import eventually, until
from tests.harness.engine import at_vendor, report_state
from tests.harness.openapi_contract import CONTRACT_HOOKS
from tests.harness.runtime import Harness, open_harness

DONE = b'{"task_id":"t-1","task_status":"succeed","task_result":{"videos":[{"url":"https://x/v.mp4"}]}}'


def admission(slots: int = 2, body_bytes: int = 1000) -> Admission:
    return Admission(random.Random(1), Limit(slots, body_bytes))


def push_limits(slots: int = 2, body_bytes: int = 1000) -> Admission:
    """The same limits for all, for an account and for a token."""
    return Admission(random.Random(1), *[Limit(slots, body_bytes)] * 3)


# -- slots and bytes


def test_a_slot_is_given_once_and_is_free_again_afterwards() -> None:
    limits = admission(slots=2)
    with limits.admit(), limits.admit(), pytest.raises(Unavailable):
        limits.admit()
    with limits.admit(), limits.admit():
        pass


def test_a_body_counts_with_its_announced_size_or_the_bytes_so_far() -> None:
    limits = admission(slots=9, body_bytes=1000)
    with limits.admit(size=600), limits.admit() as growing:
        growing.hold(300)
        growing.hold(200)
        growing.hold(400)
        for too_much in (lambda: growing.hold(401), lambda: limits.admit(size=1)):
            with pytest.raises(Unavailable):
                too_much()
    with limits.admit(size=1000):
        pass


def test_a_body_of_the_announced_size_needs_no_more_bytes() -> None:
    limits = admission(body_bytes=1000)
    with limits.admit(size=1000) as slot:
        slot.hold(1000)


def test_a_refused_request_takes_no_slot_and_no_bytes() -> None:
    limits = admission(slots=1, body_bytes=10)
    for _ in range(5):
        with pytest.raises(Unavailable):
            limits.admit(size=11)
    with limits.admit(size=10):
        pass


def test_refused_requests_are_spread_over_five_seconds() -> None:
    limits, waits = admission(slots=0), list[int]()
    for _ in range(200):
        with pytest.raises(Unavailable) as turned_away:
            limits.admit()
        waits.append(turned_away.value.retry_after)
    assert set(waits) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("header", "size"),
    [(None, 0), ("", 0), ("17", 17), ("-1", 0), ("1_0", 0), ("²", 0), ("9" * 99, 10**12 - 1)],
)
def test_only_a_plain_number_is_a_content_length(header: str | None, size: int) -> None:
    assert content_length(header) == size


# -- the callback endpoint


class Callbacks:
    """A callback endpoint with few slots and bytes, and requests at the level of ASGI."""

    def __init__(self, h: Harness, path: str, admission: Admission) -> None:
        self.h = h
        self.path = path
        self.endpoint = callback_endpoint(Starlette(), h.runtime, admission)

    async def send(
        self, receive: Any, size: int | None = None, method: str = "POST", path: str = ""
    ) -> dict[str, Any]:
        """Return the head of the response, its headers under `headers`."""
        sent: list[Message] = []

        async def collect(message: Message) -> None:
            sent.append(message)

        headers = [] if size is None else [(b"content-length", str(size).encode())]
        scope = {"type": "http", "method": method, "path": path or self.path, "headers": headers}
        await self.endpoint(scope, receive, collect)
        return {**sent[0], "headers": dict(sent[0]["headers"])} if sent else {"status": None}

    async def post(self, body: bytes = DONE) -> dict[str, Any]:
        return await self.send(whole(body), len(body))


def whole(body: bytes) -> Callable[[], Any]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def unread() -> Message:
    """Stand for a body that must not be read."""
    raise AssertionError("the body was read")


class Slow:
    """A sender that has sent half of its body and waits for `go_on`."""

    def __init__(self, body: bytes = DONE) -> None:
        self.half_sent, self.go_on = asyncio.Event(), asyncio.Event()
        self._parts = [body[:10], body[10:]]

    async def __call__(self) -> Message:
        if len(self._parts) == 1:
            self.half_sent.set()
            await self.go_on.wait()
        return {"type": "http.request", "body": self._parts.pop(0), "more_body": bool(self._parts)}


@pytest.fixture
async def endpoint(h: Harness) -> Callbacks:
    """The endpoint of a service with one job, with two slots and 4 KiB."""
    opened = await at_vendor(h)
    token = h.runtime.keys.mint("main", Callback(opened["id"], 1), opened["deadline_at"])
    return Callbacks(h, f"/callbacks/main/{token}", push_limits(slots=2, body_bytes=4096))


async def test_a_push_without_a_slot_is_503_unread_and_accepted_when_it_comes_again(
    endpoint: Callbacks,
) -> None:
    senders = [Slow(), Slow()]
    waiting = [asyncio.create_task(endpoint.send(slow, len(DONE))) for slow in senders]
    for slow in senders:
        await slow.half_sent.wait()
    answer = await endpoint.send(unread, len(DONE))
    assert answer["status"] == 503
    assert 1 <= int(answer["headers"][b"retry-after"]) <= 5
    assert await endpoint.h.rows(push) == []
    for slow in senders:
        slow.go_on.set()
    assert [(await task)["status"] for task in waiting] == [200, 200]
    assert (await endpoint.post())["status"] == 200
    assert (await endpoint.h.rows(push))[0]["copies"] == 3


async def test_a_push_without_free_bytes_is_503_unread(endpoint: Callbacks) -> None:
    slow = Slow()
    waiting = asyncio.create_task(endpoint.send(slow, 4000))
    await slow.half_sent.wait()
    assert (await endpoint.send(unread, len(DONE)))["status"] == 503
    slow.go_on.set()
    assert (await waiting)["status"] == 200
    assert (await endpoint.send(whole(DONE), len(DONE)))["status"] == 200


async def test_a_body_without_content_length_is_503_when_no_more_bytes_are_free(
    endpoint: Callbacks,
) -> None:
    chunks = iter([b" " * 4000, b" " * 4000, b"never asked for"])

    async def endless() -> Message:
        return {"type": "http.request", "body": next(chunks), "more_body": True}

    assert (await endpoint.send(endless))["status"] == 503
    assert next(chunks) == b"never asked for"
    assert (await endpoint.send(whole(DONE)))["status"] == 200, "its bytes are free again"


async def test_a_fault_of_the_sender_is_reported_even_if_no_slot_is_free(
    endpoint: Callbacks,
) -> None:
    """Method, token and size are checked first, in that order."""
    endpoint.endpoint = callback_endpoint(Starlette(), endpoint.h.runtime, push_limits(slots=0))
    assert (await endpoint.send(unread, 10, method="GET"))["status"] == 405
    assert (await endpoint.send(unread, CAP + 1, path="/callbacks/main/forged"))["status"] == 404
    assert (await endpoint.send(unread, CAP + 1))["status"] == 413
    assert (await endpoint.send(unread, CAP))["status"] == 503


async def test_however_a_push_ends_its_slot_is_free(
    endpoint: Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "BODY_DEADLINE", 0.01)

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def silent() -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    ends = [(whole(b"no json"), 400), (gone, None), (silent, 408), (whole(b" " * (CAP + 1)), 413)]
    for receive, status in [*ends, *ends]:
        assert (await endpoint.send(receive))["status"] == status
    assert (await endpoint.send(whole(DONE), 4096))["status"] == 200


async def test_a_vendor_that_repeats_refused_pushes_loses_none(endpoint: Callbacks) -> None:
    """Fifty at once with two slots: refused pushes are repeated until they are accepted."""
    bodies = [b'{"task_id":"t-1","task_status":"processing","n":%d}' % n for n in range(50)]
    statuses: list[int] = []
    while bodies:
        answers = await asyncio.gather(*(endpoint.post(body) for body in bodies))
        statuses += [answer["status"] for answer in answers]
        bodies = [
            body for body, answer in zip(bodies, answers, strict=True) if answer["status"] == 503
        ]
    assert set(statuses) == {200, 503}
    assert len(await endpoint.h.rows(push)) == 50


# -- job submission


class Caller:
    """A caller that submits and retries with one slot."""

    def __init__(self, h: Harness, http: httpx.AsyncClient) -> None:
        self.h = h
        self.http = http

    async def submit(self, content: Any, **headers: str) -> httpx.Response:
        return await self.http.post("/v1/jobs", content=content, headers=headers)


@pytest.fixture
async def caller(tmp_path: Path, everywhere: None) -> AsyncIterator[Caller]:
    async with open_harness(tmp_path, api_keys=[ADMIN]) as h:
        limit = Limit(1, request_body.SUBMISSION_CAP + (1 << 18))
        h.runtime.bodies = Admission(random.Random(1), Limit(9, 1 << 30), limit)
        intake = JobSubmission(h.runtime)
        routes = [
            Route(path, Endpoint(h.runtime, h.runtime.assemble(Authenticator), {"POST": handler}))
            for path, handler in (
                ("/v1/jobs", intake.submit),
                ("/v1/jobs/{id}/retry", intake.retry),
            )
        ]
        transport = httpx.ASGITransport(Starlette(routes=routes))
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", headers=headers, event_hooks=CONTRACT_HOOKS
        ) as http:
            yield Caller(h, http)


async def test_a_submission_without_a_slot_is_503_and_no_job(caller: Caller) -> None:
    body, begun, go_on = (
        httpx.Request("POST", "/", json=BODY).content,
        asyncio.Event(),
        asyncio.Event(),
    )

    async def slow() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield body

    first = asyncio.create_task(caller.submit(slow()))
    await begun.wait()
    for path in ("/v1/jobs", f"/v1/jobs/{caller.h.runtime.ids('job')}/retry"):
        answer = await caller.http.post(path, json=BODY if path == "/v1/jobs" else {})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    go_on.set()
    assert (await first).status_code == 202
    assert (await caller.submit(body)).status_code == 202
    assert len(await caller.h.rows(job)) == 2


async def test_a_submission_with_prefer_wait_keeps_no_slot_while_it_waits(caller: Caller) -> None:
    body = httpx.Request("POST", "/", json=BODY).content
    patient = asyncio.create_task(caller.submit(body, prefer="wait=60"))
    found = await eventually(lambda: caller.h.rows(job))
    await until(lambda: caller.h.runtime.notifier.job_waiters._waiting)
    assert (await caller.submit(body)).status_code == 202
    await report_state(caller.h, found[0]["id"], JobState.SUCCEEDED)
    assert (await patient).status_code == 200


async def test_a_submission_that_is_too_large_is_413_even_if_no_bytes_are_free(
    caller: Caller,
) -> None:
    assert (await caller.submit(b" " * (request_body.SUBMISSION_CAP + 1))).status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * (1 << 18)

    assert (await caller.submit(endless())).status_code == 413
    assert (await caller.submit(b"{}")).status_code == 422, "its slot is free again"
