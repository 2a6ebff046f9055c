"""Retries: scripted in virtual time, and through a proxy that breaks connections."""

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
    CLIENTS,
    Response,
    each_client,
    job_document,
    json_response,
    lost,
    open_client,
    script,
    scripted,
)
from tests.harness.streams import accepting

GET = Request("GET", "/v1/jobs")
POST = Request("POST", "/v1/jobs/job_1/cancel")
KEYED = Request("POST", "/v1/jobs", json={}, headers={"Idempotency-Key": "k"})
OK = json_response({"ok": True})
BUSY = json_response({"code": "unavailable", "title": "Busy"}, 503, retry_after="2")
LIMITED = json_response({"code": "rate_limited"}, 429, retry_after="2")
PROXY = Response(502, {"content-type": "text/html"}, [b"<html>Bad gateway"])
VENDOR = json_response({"code": "vendor_error"}, 502)
FAULT = json_response({"code": "internal_error"}, 500)
HALF = Response(200, {}, [b'{"ok"', lost()])


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
        (GET, json_response({"code": "not_found"}, 404), False),
    ],
)  # fmt: skip
def test_only_calls_without_a_second_effect_are_retried(
    request_: Request, trouble: Any, again: bool
) -> None:
    connection = scripted(trouble, OK)
    if again:
        assert run_sync(connection.call(request_)).document == {"ok": True}
        assert [request.headers for request in script(connection).requests] == [
            request_.headers
        ] * 2, "the key too"
    else:
        with pytest.raises(errors.ClientError):
            run_sync(connection.call(request_))
        assert len(script(connection).requests) == 1


def test_the_number_of_retries_is_limited() -> None:
    for retries in (0, 1, 4):
        connection = scripted(lost(), retries=retries)
        with pytest.raises(Unreachable):
            run_sync(connection.call(GET))
        assert len(script(connection).requests) == 1 + retries


def test_retry_after_is_respected_up_to_a_minute() -> None:
    connection = scripted(BUSY, OK)
    run_sync(connection.call(GET))
    assert 2.25 <= script(connection).now <= 2.5
    connection = scripted(json_response({"code": "rate_limited"}, 429, retry_after="61"), OK)
    with pytest.raises(errors.RateLimited) as limited:
        run_sync(connection.call(GET))
    assert (limited.value.retry_after, script(connection).sleeps) == (61, [])


def test_the_backoff_doubles_up_to_a_limit_with_jitter() -> None:
    retries = Retries(rng=random.Random(1))
    for tries, most in ((1, 0.5), (2, 1.0), (4, 4.0), (9, 8.0), (10_000, 8.0)):
        drawn = [retries.backoff(tries) for _ in range(50)]
        assert most / 2 <= min(drawn) < max(drawn) <= most


def wait(
    *responses: Any, timeout: float | None = None, takes: float = 0.0
) -> tuple[Any, list[Job]]:
    connection, changes = scripted(*responses, takes=takes), list[Job]()
    try:
        return run_sync(until_final(connection, "job_1", timeout, changes.append)), changes
    except errors.ClientError as error:
        return (error, script(connection).now), changes


NOT_MODIFIED = Response(304)


def test_a_wait_outlives_an_outage() -> None:
    away = [lost(), *[lost(sent=False)] * 20, BUSY, PROXY, LIMITED]
    back = (
        json_response(job_document(version=2, progress=50)),
        json_response(job_document(version=3, status="succeeded")),
    )
    job, changes = wait(json_response(job_document()), NOT_MODIFIED, *away, *back)
    assert (job.status, [job.version for job in changes]) == ("succeeded", [1, 2, 3])


def test_a_wait_ignores_an_older_version_of_the_job() -> None:
    _, changes = wait(
        json_response(job_document(version=5)),
        json_response(job_document(version=4)),
        json_response(job_document(version=6, status="failed")),
    )
    assert [job.version for job in changes] == [5, 6]


def test_a_wait_ends_at_its_timeout_whatever_the_server_does() -> None:
    for responses in (
        [json_response(job_document()), lost()],
        [json_response(job_document()), NOT_MODIFIED],
        [json_response(job_document()), BUSY],
    ):
        (error, now), _ = wait(*responses, timeout=40)
        assert isinstance(error, errors.WaitTimeout)
        assert error.job.status == "processing"
        assert now == pytest.approx(40)
    assert "is still processing after 40 s" in str(error)


def test_a_wait_without_timeout_ends_after_the_longest_outage() -> None:
    (error, now), _ = wait(json_response(job_document()), lost())
    assert isinstance(error, Unreachable)
    assert LONGEST_OUTAGE < now < LONGEST_OUTAGE + 10


def test_a_server_that_responds_at_once_is_polled_at_intervals() -> None:
    connection = scripted(json_response(job_document()), NOT_MODIFIED)
    with pytest.raises(errors.WaitTimeout):
        run_sync(until_final(connection, "job_1", 10, None))
    assert len(script(connection).requests) <= 42


@pytest.mark.parametrize(
    "response",
    [
        json_response({"code": "x"}, 401),
        json_response({"code": "x"}, 404),
        json_response([]),
        Response(200, {}, [b"<"]),
    ],
)
def test_a_wait_ends_with_a_permanent_error(response: Response) -> None:
    (error, now), _ = wait(json_response(job_document()), response)
    assert (isinstance(error, errors.ClientError), now) == (True, 0)


class BreakingProxy:
    """A proxy that breaks connections: after `breaks` bytes of a response, None for never."""

    def __init__(self, port: int, breaks: Iterator[int | None]) -> None:
        self.port = port
        self.breaks = breaks
        self.broken = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await asyncio.gather(
                self._requests(reader, upstream), self._responses(upstream_reader, writer)
            )
        finally:
            upstream.transport.abort()
            writer.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            upstream.write(data)

    async def _responses(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            after = next(self.breaks, None)
            if after is not None:
                self.broken += 1
                writer.write(data[:after])
                await writer.drain()
                # `close`, not `abort`: the client receives these bytes before the end.
                writer.close()
                return
            writer.write(data)


async def test_a_submission_with_a_lost_response_makes_one_job(tmp_path: Path) -> None:
    """The response is lost before its first byte, in its head, or in its body."""
    async with live(tmp_path) as service:
        for client_class in CLIENTS:
            for after in (0, 20, 400):
                proxy = BreakingProxy(int(service.url.rpartition(":")[2]), iter([after]))
                async with (
                    accepting(proxy.carry) as port,
                    open_client(client_class, f"http://127.0.0.1:{port}") as client,
                ):
                    job = await client.submit(**order("kling"))
                    newest, *_ = await client.jobs.list()
                    assert (proxy.broken, newest.id) == (1, job.id)
        assert len((await service.api.get("/v1/jobs"))["data"]) == 6


async def test_a_cancel_with_a_lost_response_is_not_retried(tmp_path: Path) -> None:
    async with live(tmp_path, render_seconds=600) as service:
        for client_class in CLIENTS:
            job = await service.api.submit(order("kling"))
            proxy = BreakingProxy(int(service.url.rpartition(":")[2]), iter([0]))
            async with (
                accepting(proxy.carry) as port,
                open_client(client_class, f"http://127.0.0.1:{port}") as client,
            ):
                with pytest.raises(Unreachable, match="may have been received") as unreachable:
                    await client.jobs.cancel(job["id"])
                assert (unreachable.value.sent, (await client.jobs.get(job["id"])).status) == (
                    True,
                    "canceled",
                )


async def test_a_server_that_is_down_is_unreachable() -> None:
    with listening() as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async for client in each_client(url, retries=1):
        with pytest.raises(
            Unreachable, match=rf"{url} cannot be reached: .*orchestrator serve"
        ) as unreachable:
            await client.submit(model="m", input={}, idempotency_key="k")
        assert (unreachable.value.sent, unreachable.value.idempotency_key) == (False, "k")
