"""The root: a browser is led to the dashboard, a client to the documentation."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from orchestrator.dashboard import entrance
from tests.harness.readers import HOST, dashboard

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "has_dashboard", "where"),
    [
        (BROWSER, True, "dashboard"),
        (BROWSER, False, "docs"),
        ("*/*", True, "docs"),
        ("application/json", True, "docs"),
        (None, True, "docs"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_leads_by_what_the_client_accepts(
    method: str, accept: str | None, has_dashboard: bool, where: str
) -> None:
    app = Starlette(routes=[entrance.route(has_dashboard=has_dashboard)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as http:
        headers = {} if accept is None else {"accept": accept}
        if accept is None:
            http.headers.pop("accept")
        response = await http.request(method, "/", headers=headers)
    assert (response.status_code, response.headers["location"]) == (307, where)
    assert response.headers["vary"] == "accept"


async def test_other_methods_are_refused_by_the_api(tmp_path: Path) -> None:
    async with dashboard(tmp_path) as pages, pages.reader() as reader:
        response = await reader.http.get("/", headers={"accept": BROWSER}, follow_redirects=True)
        assert response.url.path == "/dashboard"
        refused = await reader.http.post("/")
        assert refused.status_code == 404
        assert refused.headers["content-type"] == "application/problem+json"


async def test_a_dashboard_that_is_disabled_is_not_found(tmp_path: Path) -> None:
    async with dashboard(tmp_path, dashboard={"enabled": False}) as pages, pages.reader() as reader:
        for path in ("/dashboard", "/dashboard/jobs", "/dashboard/sign-in"):
            assert (await reader.http.get(path)).status_code == 404
        led = await reader.http.get("/", headers={"accept": BROWSER})
        assert led.headers["location"] == "docs"


async def test_pages_are_loaded_once_with_the_first_request() -> None:
    made = list[threading.Thread]()

    def make() -> ASGIApp:
        made.append(threading.current_thread())
        return PlainTextResponse("a page")

    app = Starlette(routes=entrance.routes(make))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as http:
        assert (await http.get("/")).status_code == 404
        assert not made
        paths = ("/dashboard", "/dashboard/", "/dashboard/jobs/1")
        responses = await asyncio.gather(*(http.get(path) for path in paths))
    assert [response.text for response in responses] == ["a page"] * 3
    assert len(made) == 1
    assert threading.main_thread() not in made
