"""The service as a guest: its host keeps its routes, its logging and its signals, and can always end."""

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


async def test_the_hosts_routes_middleware_and_handlers_are_left_alone(tmp_path: Path) -> None:
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


async def test_neither_logging_nor_structlog_is_configured_for_the_host(tmp_path: Path) -> None:
    root, configured = [*logging.getLogger().handlers], structlog.get_config()
    async with mounted(tmp_path) as (_, http):
        await http.get("/a/video/healthz")
        assert logging.getLogger().handlers == root
        assert structlog.get_config() == configured
        assert logging.getLogger("uvicorn.access").filters
    assert logging.getLogger("uvicorn.access").filters == []


@pytest.fixture
def hosts_handler() -> Any:
    """A host that handles SIGTERM itself; what it has heard."""
    heard: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    yield heard, handler
    signal.signal(signal.SIGTERM, before)


async def test_a_signal_ends_streams_and_reaches_the_host_whose_handler_is_back_in_the_end(
    tmp_path: Path, hosts_handler: tuple[list[int], Handler]
) -> None:
    heard, handler = hosts_handler
    async with (
        mounted(tmp_path) as (video, http),
        http.stream("GET", "/a/video/v1/events/stream") as stream,
    ):
        assert stream.status_code == 200
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        await stream.aread()
        assert video.client is not None, "the service itself runs on, until the host ends it"
    assert signal.getsignal(signal.SIGTERM) is handler


async def test_a_host_that_ends_without_a_signal_says_so_itself(tmp_path: Path) -> None:
    async with (
        mounted(tmp_path) as (video, http),
        http.stream("GET", "/a/video/v1/events/stream") as stream,
    ):
        video.end_streams()
        await stream.aread()
        refused = await http.get("/a/video/v1/events/stream")
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    video.end_streams()


async def test_a_handler_that_came_later_is_left_in_place(
    tmp_path: Path, hosts_handler: tuple[list[int], Handler]
) -> None:
    heard, _ = hosts_handler
    async with service(tmp_path, "https://my.app/video").lifespan():
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)

        def later(number: int, frame: FrameType | None) -> None:
            ours(number, frame)

        signal.signal(signal.SIGTERM, later)
    assert signal.getsignal(signal.SIGTERM) is later
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM], "and it may go on calling ours"
