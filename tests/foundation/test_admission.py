"""Backpressure: beyond its places and its room a door says 503 before memory grows, and never says it for good."""

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
from orchestrator.api.callbacks import CallbackEndpoint
from orchestrator.api.endpoint import Endpoint
from orchestrator.api.job_submission import JobSubmission
from orchestrator.database.tables import job, push
from orchestrator.engine.receive import CAP, Receiver
from orchestrator.foundation.admission import Admission, announced
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.states import JobState
from tests.api.test_support import ADMIN, BODY
from tests.harness.api_caller import eventually, until
from tests.harness.engine import at_vendor, tell
from tests.harness.openapi_contract import HELD
from tests.harness.runtime import Harness, open_harness

DONE = b'{"task_id":"t-1","task_status":"succeed","task_result":{"videos":[{"url":"https://x/v.mp4"}]}}'


def door(places: int = 2, room: int = 1000) -> Admission:
    return Admission(random.Random(1), places=places, room=room)


# -- places and room


def test_every_place_is_given_once_and_is_free_again_afterwards() -> None:
    it = door(places=2)
    with it.admit(), it.admit(), pytest.raises(Unavailable):
        it.admit()
    with it.admit(), it.admit():
        pass


def test_room_is_what_is_announced_or_what_has_come() -> None:
    it = door(places=9, room=1000)
    with it.admit(600), it.admit() as growing:
        growing.hold(300)
        growing.hold(200)
        growing.hold(400)
        for too_much in (lambda: growing.hold(401), lambda: it.admit(1)):
            with pytest.raises(Unavailable):
                too_much()
    with it.admit(1000):
        pass


def test_a_body_may_be_as_long_as_announced_for_nothing_more() -> None:
    it = door(room=1000)
    with it.admit(1000) as place:
        place.hold(1000)


def test_one_who_is_turned_away_takes_no_place_and_no_room() -> None:
    it = door(places=1, room=10)
    for _ in range(5):
        with pytest.raises(Unavailable):
            it.admit(11)
    with it.admit(10):
        pass


def test_those_turned_away_come_back_within_five_seconds_and_not_all_at_once() -> None:
    it, waits = door(places=0), list[int]()
    for _ in range(200):
        with pytest.raises(Unavailable) as turned_away:
            it.admit()
        waits.append(turned_away.value.retry_after)
    assert set(waits) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("said", "size"),
    [(None, 0), ("", 0), ("17", 17), ("-1", 0), ("1_0", 0), ("²", 0), ("9" * 99, 10**12 - 1)],
)
def test_only_a_plain_number_announces_a_size(said: str | None, size: int) -> None:
    assert announced(said) == size


# -- the vendors' door


class Street:
    """A door with few places and little room, and requests at the level of ASGI."""

    def __init__(self, h: Harness, path: str, admission: Admission) -> None:
        self.h = h
        self.path = path
        self.door = CallbackEndpoint(Starlette(), h.runtime.assemble(Receiver), admission)

    async def send(
        self, receive: Any, size: int | None = None, method: str = "POST", path: str = ""
    ) -> dict[str, Any]:
        """Return the head of the answer, its headers under `headers`."""
        sent: list[Message] = []

        async def collect(message: Message) -> None:
            sent.append(message)

        headers = [] if size is None else [(b"content-length", str(size).encode())]
        scope = {"type": "http", "method": method, "path": path or self.path, "headers": headers}
        await self.door(scope, receive, collect)
        return {**sent[0], "headers": dict(sent[0]["headers"])} if sent else {"status": None}

    async def post(self, body: bytes = DONE) -> dict[str, Any]:
        return await self.send(whole(body), len(body))


def whole(body: bytes) -> Callable[[], Any]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def unread() -> Message:
    """Stand for a body that nobody may look at."""
    raise AssertionError("the body was read")


class Slow:
    """A sender that has said half of its body and waits to be let go on."""

    def __init__(self, body: bytes = DONE) -> None:
        self.heard, self.go_on = asyncio.Event(), asyncio.Event()
        self._parts = [body[:10], body[10:]]

    async def __call__(self) -> Message:
        if len(self._parts) == 1:
            self.heard.set()
            await self.go_on.wait()
        return {"type": "http.request", "body": self._parts.pop(0), "more_body": bool(self._parts)}


@pytest.fixture
async def street(h: Harness) -> Street:
    """The door of a house with one job, with two places and room for 4 KiB."""
    opened = await at_vendor(h)
    token = h.runtime.keys.mint("main", Callback(opened["id"], 1), opened["deadline_at"])
    return Street(h, f"/callbacks/main/{token}", door(places=2, room=4096))


async def test_a_push_without_a_place_is_503_unread_and_taken_when_it_comes_again(
    street: Street,
) -> None:
    slow = [Slow(), Slow()]
    waiting = [asyncio.create_task(street.send(one, len(DONE))) for one in slow]
    for one in slow:
        await one.heard.wait()
    answer = await street.send(unread, len(DONE))
    assert answer["status"] == 503
    assert 1 <= int(answer["headers"][b"retry-after"]) <= 5
    assert await street.h.rows(push) == []
    for one in slow:
        one.go_on.set()
    assert [(await task)["status"] for task in waiting] == [200, 200]
    assert (await street.post())["status"] == 200
    assert (await street.h.rows(push))[0]["copies"] == 3


async def test_a_push_without_room_is_503_unread(street: Street) -> None:
    slow = Slow()
    waiting = asyncio.create_task(street.send(slow, 4000))
    await slow.heard.wait()
    assert (await street.send(unread, len(DONE)))["status"] == 503
    slow.go_on.set()
    assert (await waiting)["status"] == 200
    assert (await street.send(whole(DONE), len(DONE)))["status"] == 200


async def test_a_body_that_does_not_announce_its_size_is_turned_away_when_there_is_no_more_room(
    street: Street,
) -> None:
    said = iter([b" " * 4000, b" " * 4000, b"never asked for"])

    async def endless() -> Message:
        return {"type": "http.request", "body": next(said), "more_body": True}

    assert (await street.send(endless))["status"] == 503
    assert next(said) == b"never asked for"
    assert (await street.send(whole(DONE)))["status"] == 200, "its room is free again"


async def test_what_is_the_senders_fault_is_said_although_the_door_is_full(street: Street) -> None:
    """Method, token and size come first, in that order."""
    street.door = CallbackEndpoint(Starlette(), street.h.runtime.assemble(Receiver), door(places=0))
    assert (await street.send(unread, 10, method="GET"))["status"] == 405
    assert (await street.send(unread, CAP + 1, path="/callbacks/main/forged"))["status"] == 404
    assert (await street.send(unread, CAP + 1))["status"] == 413
    assert (await street.send(unread, CAP))["status"] == 503


async def test_however_a_push_ends_its_place_is_free(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "BODY_DEADLINE", 0.01)

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def silent() -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    ends = [(whole(b"no json"), 400), (gone, None), (silent, 408), (whole(b" " * (CAP + 1)), 413)]
    for receive, status in [*ends, *ends]:
        assert (await street.send(receive))["status"] == status
    assert (await street.send(whole(DONE), 4096))["status"] == 200


async def test_a_vendor_that_is_turned_away_loses_nothing(street: Street) -> None:
    """Fifty at once at a door for two: those that were refused come again until they are taken."""
    bodies = [b'{"task_id":"t-1","task_status":"processing","n":%d}' % n for n in range(50)]
    statuses: list[int] = []
    while bodies:
        answers = await asyncio.gather(*(street.post(body) for body in bodies))
        statuses += [answer["status"] for answer in answers]
        bodies = [
            body for body, answer in zip(bodies, answers, strict=True) if answer["status"] == 503
        ]
    assert set(statuses) == {200, 503}
    assert len(await street.h.rows(push)) == 50


# -- the callers' door


class Counter:
    """Somebody who submits, and repeats, at a door with one place."""

    def __init__(self, h: Harness, http: httpx.AsyncClient) -> None:
        self.h = h
        self.http = http

    async def submit(self, content: Any, **headers: str) -> httpx.Response:
        return await self.http.post("/v1/jobs", content=content, headers=headers)


@pytest.fixture
async def counter(tmp_path: Path, everywhere: None) -> AsyncIterator[Counter]:
    async with open_harness(tmp_path, api_keys=[ADMIN]) as h:
        intake = JobSubmission(h.runtime, door(places=1, room=2 * request_body.BODY_CAP))
        routes = [
            Route(path, Endpoint(h.runtime, Authenticator(h.runtime), {"POST": handler}))
            for path, handler in (
                ("/v1/jobs", intake.submit),
                ("/v1/jobs/{id}/retry", intake.retry),
            )
        ]
        transport = httpx.ASGITransport(Starlette(routes=routes))
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", headers=headers, event_hooks=HELD
        ) as http:
            yield Counter(h, http)


async def test_a_submission_without_a_place_is_503_and_no_job(counter: Counter) -> None:
    body, begun, go_on = (
        httpx.Request("POST", "/", json=BODY).content,
        asyncio.Event(),
        asyncio.Event(),
    )

    async def slow() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield body

    first = asyncio.create_task(counter.submit(slow()))
    await begun.wait()
    for path in ("/v1/jobs", f"/v1/jobs/{counter.h.runtime.ids('job')}/retry"):
        answer = await counter.http.post(path, json=BODY if path == "/v1/jobs" else {})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    go_on.set()
    assert (await first).status_code == 202
    assert (await counter.submit(body)).status_code == 202
    assert len(await counter.h.rows(job)) == 2


async def test_a_submission_that_waits_for_its_end_keeps_no_place(counter: Counter) -> None:
    body = httpx.Request("POST", "/", json=BODY).content
    patient = asyncio.create_task(counter.submit(body, prefer="wait=60"))
    found = await eventually(lambda: counter.h.rows(job))
    await until(lambda: counter.h.runtime.notifier.job_waiters._waiting)
    assert (await counter.submit(body)).status_code == 202
    await tell(counter.h, found[0]["id"], JobState.SUCCEEDED)
    assert (await patient).status_code == 200


async def test_a_submission_that_is_too_large_is_413_even_where_there_is_no_room(
    counter: Counter,
) -> None:
    assert (await counter.submit(b" " * (request_body.BODY_CAP + 1))).status_code == 413

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * (1 << 18)

    assert (await counter.submit(endless())).status_code == 413
    assert (await counter.submit(b"{}")).status_code == 422, "its place is free again"
