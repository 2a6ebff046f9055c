"""Files of a job are streamed from the vendor, and the account's key goes to the vendor alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa
import structlog
from starlette.applications import Starlette
from starlette.types import Message

from orchestrator.api import outputs, routes
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.outputs import FileStream
from orchestrator.database.tables import job
from orchestrator.foundation.admission import Limit
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import CutOff, NotSent
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Output, Report
from tests.api.test_support import ADMIN, TWO, Caller, calling
from tests.harness.engine import apply_report

BASE = "https://hooks.example.com"
CONTENT = "https://d.example/v1/videos/t/content"
CDN = "https://cdn.example/v.mp4"
KEYED = Output(CONTENT, needs_key=True)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    async with calling(tmp_path_factory.mktemp("service"), accounts=TWO) as caller:
        yield caller


@pytest.fixture
def api(service: Caller) -> Caller:
    """A service of the module, whose vendors have not been asked yet."""
    service.network.requests.clear()
    return service


async def made(api: Caller, *videos: Output, account: str = "dream", **more: Any) -> str:
    """Return the path of a succeeded job with these results."""
    job_id = (await api.open(account=account))["id"]
    report = Report(JobState.SUCCEEDED, word="completed", videos=videos, **more)
    await apply_report(api, ReportEvent(job_id, report, Source.POLL))
    return f"/v1/jobs/{job_id}"


def keys_sent(api: Caller) -> list[tuple[str, bool]]:
    """Return where requests went, and whether they carried the account's key."""
    return [
        (str(request.url), request.headers.get("authorization") == "Bearer k")
        for request in api.network.requests
    ]


async def test_a_job_shows_what_else_the_vendor_made_and_charged(api: Caller) -> None:
    stated = Output(CONTENT, watermark_url=f"{CDN}?wm", needs_key=True)
    derived = KEYED._replace(is_stated=False)
    path = await made(api, Output(CDN), stated, audios=(derived,), billing={"units": 0.5})
    shown = await api.get(path)
    plain, keyed = shown["output"]["videos"]
    (sound,) = shown["output"]["audios"]
    assert (plain["url"], plain["content_url"], plain["watermark_url"]) == (CDN, None, None)
    assert (keyed["url"], keyed["content_url"]) == (CONTENT, f"{BASE}{path}/outputs/1")
    assert keyed["watermark_url"] == f"{CDN}?wm"
    assert sound["url"] == sound["content_url"] == f"{BASE}{path}/outputs/2"
    assert (shown["output"]["images"], shown["billing"]) == ([], {"units": 0.5})
    (event,) = (await api.get(f"/v1/events?type=job.succeeded&job={shown['id']}"))["data"]
    assert event["data"]["output"] == shown["output"]


async def test_a_job_of_an_older_version_is_shown_in_full(api: Caller) -> None:
    path = await made(api, Output(CDN))
    old = {"videos": [{"id": None, "url": CDN, "duration": 5.0, "expires_at": None}], "images": []}
    await api.run(sa.update(job).values(output=old))
    shown = (await api.get(path))["output"]
    assert (shown["audios"], shown["videos"][0]["content_url"]) == ([], None)
    api.network.answer = lambda _: httpx.Response(200, content=b"film")
    assert (await api.call("GET", f"{path}/outputs/0", 200)).content == b"film"


@pytest.mark.parametrize(
    ("file", "keyed"),
    [
        (KEYED, True),
        (Output("https://D.example:443/v/content", needs_key=True), True),
        (Output(CONTENT), False),
        (Output(CDN, needs_key=True), False),
        (Output("https://d.example.evil.example/v", needs_key=True), False),
        (Output("https://d.example:8443/v", needs_key=True), False),
        (Output("http://d.example/v", needs_key=True), False),
    ],
)
async def test_the_account_s_key_goes_to_the_origin_of_its_base_url_alone(
    api: Caller, file: Output, keyed: bool
) -> None:
    path = await made(api, file)
    reader = await api.key(Scope.READ)
    api.network.answer = lambda _: httpx.Response(200, content=b"film")
    assert (await api.call("GET", f"{path}/outputs/0", 200, headers=reader)).content == b"film"
    ((_, sent),) = keys_sent(api)
    assert sent is keyed


async def test_a_redirect_to_another_origin_loses_the_key_for_good(api: Caller) -> None:
    path = await made(api, KEYED)
    hops = {CONTENT: "/signed", "https://d.example/signed": CDN, CDN: "https://d.example/back"}

    def answer(request: httpx.Request) -> httpx.Response:
        to = hops.get(str(request.url))
        return httpx.Response(302, headers={"location": to}) if to else httpx.Response(200)

    api.network.answer = answer
    await api.call("GET", f"{path}/outputs/0", 200)
    assert keys_sent(api) == [
        (CONTENT, True),
        ("https://d.example/signed", True),
        (CDN, False),
        ("https://d.example/back", False),
    ]
    api.network.answer = lambda _: httpx.Response(307, headers={"location": "/again"})
    assert "redirects more" in (await api.get(f"{path}/outputs/0", 502))["detail"]


async def test_ranges_and_validators_pass_in_both_directions(api: Caller) -> None:
    path = await made(api, KEYED)
    part = {
        "content-range": "bytes 0-3/9", "etag": '"e"', "content-type": "video/mp4",
        "accept-ranges": "bytes", "set-cookie": "a=b", "x-secret": "s",
    }  # fmt: skip
    api.network.answer = lambda _: httpx.Response(206, headers=part, content=b"film")
    sent = {"range": "bytes=0-3", "if-range": '"e"', "cookie": "c=d", "x-mine": "m"}
    response = await api.call("GET", f"{path}/outputs/0", 206, headers=sent)
    (request,) = api.network.requests
    assert {name: request.headers[name] for name in ("range", "if-range")} == {
        "range": "bytes=0-3", "if-range": '"e"',
    }  # fmt: skip
    assert not {"cookie", "x-mine"} & request.headers.keys()
    for name in ("content-range", "etag", "content-type", "accept-ranges"):
        assert response.headers[name] == part[name]
    assert response.headers["content-length"] == "4"
    assert not {"set-cookie", "x-secret"} & response.headers.keys()
    for status, names in ((304, {"etag"}), (416, {"content-range"})):
        api.network.answer = lambda _, status=status: httpx.Response(status, headers=part)  # type: ignore[misc]
        response = await api.http.get(f"{path}/outputs/0", headers=sent)
        assert (response.status_code, response.content) == (status, b"")
        assert names <= response.headers.keys()


async def test_several_ranges_are_answered_with_the_whole_file(api: Caller) -> None:
    path = await made(api, KEYED)
    api.network.answer = lambda _: httpx.Response(200, content=b"film")
    sent = {"range": "bytes=0-1,3-3", "if-range": '"e"', "if-none-match": '"e"'}
    await api.call("GET", f"{path}/outputs/0", 200, headers=sent)
    (request,) = api.network.requests
    assert not {"range", "if-range"} & request.headers.keys()
    assert request.headers["if-none-match"] == '"e"'


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("video/mp4", "video/mp4"),
        ("Audio/MPEG; x=y", "audio/mpeg"),
        ("", "application/octet-stream"),
        ("application/javascript", "application/octet-stream"),
        ("video/<script>", "application/octet-stream"),
    ],
)
async def test_a_file_is_nothing_that_a_browser_runs(api: Caller, sent: str, shown: str) -> None:
    path = await made(api, KEYED)
    api.network.answer = lambda _: httpx.Response(200, headers={"content-type": sent})
    headers = (await api.call("GET", f"{path}/outputs/0", 200)).headers
    assert headers["content-type"] == shown
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


FAILURES: dict[str, httpx.Response | Exception] = {
    "401": httpx.Response(401, json={"error": "k"}),
    "404": httpx.Response(404),
    "202": httpx.Response(202, json={"status": "running"}),
    "json": httpx.Response(200, json={"error": "quota"}),
    "html": httpx.Response(200, html="<h1>login</h1>"),
    "not sent": NotSent("d.example: connection refused"),
    "cut off": CutOff("d.example: disconnected"),
    "nowhere": httpx.Response(302, headers={"location": "http://[::"}),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_vendor_without_the_file_is_a_502_that_shows_no_key(api: Caller, name: str) -> None:
    path, answer = await made(api, KEYED), FAILURES[name]

    def respond(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    api.network.answer = respond
    refused = await api.get(f"{path}/outputs/0", 502)
    assert refused["code"] == "vendor_error"
    status = str(answer.status_code) if isinstance(answer, httpx.Response) else None
    assert refused.get("vendor_status") == (None if name == "nowhere" else status)


async def test_what_is_not_there_is_a_404_and_what_is_not_yet_a_409(api: Caller) -> None:
    path = await made(api, KEYED)
    for number in ("1", "-1", "00", "x", "9" * 40, "%00", "0/x"):
        await api.call("GET", f"{path}/outputs/{number}", 404)
    await api.call("GET", f"/v1/jobs/{api.runtime.ids('job')}/outputs/0", 404)
    await api.call("GET", f"{path}/outputs/0", 401, headers={"authorization": "Bearer no"})
    live = (await api.open())["id"]
    await api.call("GET", f"/v1/jobs/{live}/outputs/0", 409)
    await api.finish(live, JobState.FAILED)
    await api.call("GET", f"/v1/jobs/{live}/outputs/0", 409)
    await api.run(sa.update(job).values(account="gone"))
    refused = await api.get(f"{path}/outputs/0", 409)
    assert "no longer configured" in refused["detail"]
    assert api.network.requests == []


async def test_streams_are_bounded_for_each_key_and_a_finished_one_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(outputs, "_LIMITS", (Limit(4), Limit(1)))
    async with calling(tmp_path, accounts=TWO) as api:
        path, arrives, answered = await made(api, KEYED), asyncio.Event(), asyncio.Event()

        async def answer(_: httpx.Request) -> httpx.Response:
            arrives.set()
            await answered.wait()
            return httpx.Response(200, content=b"film")

        api.network.answer = answer
        first = asyncio.create_task(api.call("GET", f"{path}/outputs/0", 200))
        await arrives.wait()
        assert (await api.get(f"{path}/outputs/0", 503))["code"] == "unavailable"
        answered.set()
        await first
        for method, body in (("GET", b"film"), ("HEAD", b""), ("GET", b"film")):
            assert (await api.call(method, f"{path}/outputs/0", 200)).content == body


async def test_a_file_ends_soon_after_the_service_begins_to_stop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise the server cancels it when its grace is over, and logs that as an error."""
    monkeypatch.setattr(outputs, "_LAST", 0.01)
    source, messages, flows = Pieces(b"film", waits=True), list[Message](), asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the client stays")

    async def send(message: Message) -> None:
        messages.append(message)
        if message.get("body"):
            flows.set()

    async with calling(tmp_path, accounts=TWO) as api:
        api.network.answer = lambda _: httpx.Response(200, stream=source)
        path = await made(api, KEYED)
        scope = {
            "type": "http", "method": "GET", "path": f"{path}/outputs/0", "query_string": b"",
            "headers": [(b"authorization", f"Bearer {ADMIN}".encode())],
        }  # fmt: skip
        service = Starlette(routes=routes(api.runtime))
        download = asyncio.create_task(service(scope, receive, send))
        await asyncio.wait_for(flows.wait(), 10)
        api.runtime.feed.close()
        await asyncio.wait_for(download, 10)
    assert source.is_closed
    assert all(message.get("more_body", True) for message in messages)


# -- the response alone


class Pieces(httpx.AsyncByteStream):
    """A body in pieces; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception, waits: bool = False) -> None:
        self.pieces, self.waits, self.is_closed = pieces, waits, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        if self.waits:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


async def sent(source: Pieces, *, leaves: bool = False, reads: bool = True) -> list[Message]:
    """Return what a client is sent, which may leave at once, or read nothing."""
    held, seen = contextlib.AsyncExitStack(), list[Message]()
    held.push_async_callback(source.aclose)

    async def receive() -> Message:
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        seen.append(message)
        if not reads and message.get("body"):
            await asyncio.Event().wait()

    response = httpx.Response(200, stream=source)
    await FileStream(response, {}, SystemClock(), (), held)({"method": "GET"}, receive, send)
    assert source.is_closed
    return seen


async def test_a_whole_file_ends_and_a_broken_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes the connection of a response that is not complete."""
    whole = await sent(Pieces(b"a" * 40_000, b"b"))
    assert b"".join(part.get("body", b"") for part in whole) == b"a" * 40_000 + b"b"
    assert max(len(part.get("body", b"")) for part in whole) <= 1 << 14
    assert whole[-1]["more_body"] is False
    monkeypatch.setattr(outputs, "_READ_DEADLINE", 0.01)
    monkeypatch.setattr("orchestrator.api.sending.SEND_DEADLINE", 0.01)
    broken = [
        await sent(Pieces(b"a", CutOff("disconnected"))),
        await sent(Pieces(b"a", waits=True)),
        await sent(Pieces(b"a", waits=True), leaves=True),
        await sent(Pieces(b"a"), reads=False),
    ]
    monkeypatch.setattr(outputs, "_PATIENCE", -1e9)
    broken.append(await sent(Pieces(b"a")))
    for messages in broken:
        assert messages[0]["status"] == 200
        assert all(message.get("more_body", True) for message in messages)


async def test_an_unexpected_error_of_a_file_is_logged() -> None:
    with structlog.testing.capture_logs() as logs:
        messages = await sent(Pieces(b"a", RuntimeError("a bug")))
    assert messages[-1]["more_body"] is True
    assert [(line["log_level"], "a bug" in line["exception"]) for line in logs] == [("error", True)]
