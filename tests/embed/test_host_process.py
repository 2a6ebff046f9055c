"""The service in a host's process: routes, logging and signals stay the host's."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from tests.harness.host_apps import address, hosted, mounted, service

Handler = Callable[[int, FrameType | None], Any]


async def test_the_hosts_routes_middleware_and_handlers_are_unchanged(tmp_path: Path) -> None:
    port, url = address()
    video = service(tmp_path, f"{url}/video")
    events: list[str] = []

    async def fail(_: Request) -> Response:
        raise LookupError

    async def explain(_: Request, __: Exception) -> Response:
        return PlainTextResponse("the host's own words", 418)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        async with video.lifespan(app):
            events.append("begun")
            yield {"of": "the host"}
            events.append("ended")

    app = Starlette(
        routes=[
            Route("/fail", fail),
            Route("/state", lambda request: PlainTextResponse(request.state.of + request.url.path)),
            Mount("/video", app=video),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=1)],
        exception_handlers={LookupError: explain, 404: explain},
        lifespan=lifespan,
    )
    async with hosted(app, port) as http:
        assert [(await http.get(path)).text for path in ("/fail", "/state", "/nothing")] == [
            "the host's own words",
            "the host/state",
            "the host's own words",
        ]
        ours = await http.get("/video/v1/jobs")
        assert (ours.status_code, ours.headers["content-encoding"]) == (200, "gzip")
        assert (await http.get("/video/nothing")).json()["code"] == "not_found"
    assert events == ["begun", "ended"]


async def test_logging_and_structlog_of_the_host_are_unchanged(tmp_path: Path) -> None:
    root, configured = [*logging.getLogger().handlers], structlog.get_config()
    async with mounted(tmp_path) as (_, http):
        await http.get("/a/video/healthz")
        assert logging.getLogger().handlers == root
        assert structlog.get_config() == configured
        assert logging.getLogger("uvicorn.access").filters
    assert logging.getLogger("uvicorn.access").filters == []


@pytest.fixture
def hosts_handler() -> Any:
    """The signals that a host's own SIGTERM handler receives, and the handler."""
    received: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    yield received, handler
    signal.signal(signal.SIGTERM, before)


async def test_a_signal_ends_streams_and_reaches_the_hosts_handler(
    tmp_path: Path, hosts_handler: tuple[list[int], Handler]
) -> None:
    received, handler = hosts_handler
    async with (
        mounted(tmp_path) as (video, http),
        http.stream("GET", "/a/video/v1/events/stream") as stream,
    ):
        assert stream.status_code == 200
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM]
        await stream.aread()
        assert video.client is not None, "the service itself runs until the host ends it"
    assert signal.getsignal(signal.SIGTERM) is handler


async def test_a_host_can_end_streams_without_a_signal(tmp_path: Path) -> None:
    async with (
        mounted(tmp_path) as (video, http),
        http.stream("GET", "/a/video/v1/events/stream") as stream,
    ):
        video.end_streams()
        await stream.aread()
        refused = await http.get("/a/video/v1/events/stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    video.end_streams()


async def test_a_handler_installed_later_stays_in_place(
    tmp_path: Path, hosts_handler: tuple[list[int], Handler]
) -> None:
    received, _ = hosts_handler
    async with service(tmp_path, "https://my.app/video").lifespan():
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)

        def later(number: int, frame: FrameType | None) -> None:
            ours(number, frame)

        signal.signal(signal.SIGTERM, later)
    assert signal.getsignal(signal.SIGTERM) is later
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM], "and it may still call ours"
