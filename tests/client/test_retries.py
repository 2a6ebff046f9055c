"""What is sent again and what is not: by a script in virtual time, and through a front that loses connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import Unreachable, errors
from orchestrator.client.requests import Request
from orchestrator.client.retries import Retries
from orchestrator.client.sync_async import run_sync
from orchestrator.client.waiting import LONGEST_OUTAGE, until_final
from orchestrator.schemas import Job
from tests.harness.live import listening, live, order
from tests.harness.scripted_client import (
    FACES,
    Said,
    a_job,
    both,
    lost,
    opened,
    said,
    script,
    scripted,
)
from tests.harness.streams import accepting

GET = Request("GET", "/v1/jobs")
POST = Request("POST", "/v1/jobs/job_1/cancel")
KEYED = Request("POST", "/v1/jobs", json={}, headers={"Idempotency-Key": "k"})
OK = said({"ok": True})
BUSY = said({"code": "unavailable", "title": "Busy"}, 503, retry_after="2")
LIMITED = said({"code": "rate_limited"}, 429, retry_after="2")
PROXY = Said(502, {"content-type": "text/html"}, [b"<html>Bad gateway"])
VENDOR = said({"code": "vendor_error"}, 502)
FAULT = said({"code": "internal_error"}, 500)
HALF = Said(200, {}, [b'{"ok"', lost()])


@pytest.mark.parametrize(
    ("request_", "trouble", "again"),
    [
        (GET, lost(), True), (KEYED, lost(), True), (POST, lost(), False),
        (GET, HALF, True), (KEYED, HALF, True), (POST, HALF, False),
        (POST, lost(sent=False), True),
        (GET, BUSY, True), (KEYED, BUSY, True), (POST, BUSY, True),
        (POST, LIMITED, True),
        (GET, PROXY, True), (KEYED, PROXY, True), (POST, PROXY, False),
        (GET, VENDOR, False), (GET, FAULT, False), (KEYED, FAULT, False), (POST, FAULT, False),
        (GET, said({"code": "not_found"}, 404), False),
    ],
)  # fmt: skip
def test_only_what_cannot_be_done_twice_is_sent_again(
    request_: Request, trouble: Any, again: bool
) -> None:
    connection = scripted(trouble, OK)
    if again:
        assert run_sync(connection.call(request_)).document == {"ok": True}
        assert [one.headers for one in script(connection).requests] == [request_.headers] * 2, (
            "the key too"
        )
    else:
        with pytest.raises(errors.ClientError):
            run_sync(connection.call(request_))
        assert len(script(connection).requests) == 1


def test_it_is_given_up_after_so_many_tries_and_never_tried_again_with_none() -> None:
    for retries in (0, 1, 4):
        connection = scripted(lost(), retries=retries)
        with pytest.raises(Unreachable):
            run_sync(connection.call(GET))
        assert len(script(connection).requests) == 1 + retries


def test_a_server_is_given_the_time_it_asks_for_unless_that_is_long() -> None:
    connection = scripted(BUSY, OK)
    run_sync(connection.call(GET))
    assert 2.25 <= script(connection).now <= 2.5
    connection = scripted(said({"code": "rate_limited"}, 429, retry_after="61"), OK)
    with pytest.raises(errors.RateLimited) as limited:
        run_sync(connection.call(GET))
    assert (limited.value.retry_after, script(connection).sleeps) == (61, [])


def test_pauses_double_up_to_a_limit_and_are_drawn_apart() -> None:
    retries = Retries(rng=random.Random(1))
    for tries, most in ((1, 0.5), (2, 1.0), (4, 4.0), (9, 8.0), (10_000, 8.0)):
        drawn = [retries.backoff(tries) for _ in range(50)]
        assert most / 2 <= min(drawn) < max(drawn) <= most


def wait(*answers: Any, timeout: float | None = None, takes: float = 0.0) -> tuple[Any, list[Job]]:
    connection, changes = scripted(*answers, takes=takes), list[Job]()
    try:
        return run_sync(until_final(connection, "job_1", timeout, changes.append)), changes
    except errors.ClientError as error:
        return (error, script(connection).now), changes


NOT_MODIFIED = Said(304)


def test_a_wait_outlives_a_server_that_is_away() -> None:
    away = [lost(), *[lost(sent=False)] * 20, BUSY, PROXY, LIMITED]
    back = said(a_job(version=2, progress=50)), said(a_job(version=3, status="succeeded"))
    job, changes = wait(said(a_job()), NOT_MODIFIED, *away, *back)
    assert (job.status, [one.version for one in changes]) == ("succeeded", [1, 2, 3])


def test_a_wait_believes_no_server_that_is_a_step_behind() -> None:
    _, changes = wait(
        said(a_job(version=5)), said(a_job(version=4)), said(a_job(version=6, status="failed"))
    )
    assert [one.version for one in changes] == [5, 6]


def test_a_wait_ends_in_time_whatever_the_server_does() -> None:
    for answers in ([said(a_job()), lost()], [said(a_job()), NOT_MODIFIED], [said(a_job()), BUSY]):
        (error, now), _ = wait(*answers, timeout=40)
        assert isinstance(error, errors.WaitTimeout)
        assert error.job.status == "processing"
        assert now == pytest.approx(40)
    assert "is still processing after 40 s" in str(error)


def test_a_wait_with_no_end_gives_up_on_a_server_that_never_comes_back() -> None:
    (error, now), _ = wait(said(a_job()), lost())
    assert isinstance(error, Unreachable)
    assert LONGEST_OUTAGE < now < LONGEST_OUTAGE + 10


def test_a_server_that_answers_at_once_is_not_asked_at_once_again() -> None:
    connection = scripted(said(a_job()), NOT_MODIFIED)
    with pytest.raises(errors.WaitTimeout):
        run_sync(until_final(connection, "job_1", 10, None))
    assert len(script(connection).requests) <= 42


@pytest.mark.parametrize(
    "answer", [said({"code": "x"}, 401), said({"code": "x"}, 404), said([]), Said(200, {}, [b"<"])]
)
def test_a_wait_ends_with_an_answer_that_no_time_will_better(answer: Said) -> None:
    (error, now), _ = wait(said(a_job()), answer)
    assert (isinstance(error, errors.ClientError), now) == (True, 0)


class Front:
    """A front before a service that breaks connections: before the answer, in the middle of it, or not."""

    def __init__(self, port: int, breaks: Iterator[int | None]) -> None:
        self.port = port
        self.breaks = breaks
        self.broken = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await asyncio.gather(self._there(reader, ours), self._back(theirs, writer))
        finally:
            ours.transport.abort()
            writer.transport.abort()

    async def _there(self, reader: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            ours.write(data)

    async def _back(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await theirs.read(65536):
            after = next(self.breaks, None)
            if after is not None:
                self.broken += 1
                writer.write(data[:after])
                await writer.drain()
                # Sent, and then gone: the caller reads the piece first.
                writer.close()
                return
            writer.write(data)


async def test_a_submission_whose_answer_is_lost_makes_one_job(tmp_path: Path) -> None:
    """Lost before its first byte, in its head, or in its body."""
    async with live(tmp_path) as it:
        for face in FACES:
            for after in (0, 20, 400):
                front = Front(int(it.url.rpartition(":")[2]), iter([after]))
                async with (
                    accepting(front.carry) as port,
                    opened(face, f"http://127.0.0.1:{port}") as client,
                ):
                    job = await client.submit(**order("kling"))
                    newest, *_ = await client.jobs.list()
                    assert (front.broken, newest.id) == (1, job.id)
        assert len((await it.api.get("/v1/jobs"))["data"]) == 6


async def test_what_may_have_been_done_is_not_done_again(tmp_path: Path) -> None:
    async with live(tmp_path, render_seconds=600) as it:
        for face in FACES:
            job = await it.api.submit(order("kling"))
            front = Front(int(it.url.rpartition(":")[2]), iter([0]))
            async with (
                accepting(front.carry) as port,
                opened(face, f"http://127.0.0.1:{port}") as client,
            ):
                with pytest.raises(Unreachable, match="may have been received") as gone:
                    await client.jobs.cancel(job["id"])
                assert (gone.value.sent, (await client.jobs.get(job["id"])).status) == (
                    True,
                    "canceled",
                )


async def test_a_server_that_is_not_there_is_said_to_be_not_there() -> None:
    with listening() as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async for client in both(url, retries=1):
        with pytest.raises(
            Unreachable, match=rf"{url} cannot be reached: .*orchestrator serve"
        ) as gone:
            await client.submit(model="m", input={}, idempotency_key="k")
        assert (gone.value.sent, gone.value.idempotency_key) == (False, "k")
