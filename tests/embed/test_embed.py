"""The service inside another application: served below its prefix, used without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestrator.api.root_path import below
from orchestrator.embed import Orchestrator
from orchestrator.foundation.errors import ConfigError, Unavailable
from orchestrator.simulator import SimulatedVendors
from tests.harness.host_apps import address, hosted, mounted, service
from tests.harness.live import order


async def test_every_link_leads_below_the_prefix(tmp_path: Path) -> None:
    async with SimulatedVendors(render_seconds=0.1) as world, mounted(tmp_path, world) as (_, http):
        made = await http.post("/a/video/v1/jobs", json=order("kling"))
        assert made.status_code == 202, made.text
        await http.post("/a/video/v1/jobs", json=order("kling"))
        page = await http.get("/a/video/v1/jobs?limit=1")
        links = [made.headers["location"], *made.json()["links"].values()]
        links.append(page.links["next"]["url"])
        assert {urlsplit(link).path.split("/v1/")[0] for link in links} == {"/a/video"}
        assert [(await http.get(link)).status_code for link in links] == [200] * len(links)
        problem = await http.get("/a/video/v1/nothing")
        assert problem.status_code == 404
        assert (await http.get(problem.json()["type"])).status_code == 200
        held = await http.get(made.headers["location"], headers={"prefer": "wait=20"})
        assert (held.json()["status"], held.json()["resolved_by"]) == ("succeeded", "push")
        for path in ("openapi.json", "docs", "healthz", "readyz"):
            assert (await http.get(f"/a/video/{path}")).status_code == 200, path


async def test_pushes_are_accepted_only_below_the_prefix(tmp_path: Path) -> None:
    async with mounted(tmp_path) as (_, http):
        for path in ("/a/video/callbacks/kling/forged", "/a/video/callbacks/unknown/forged"):
            answer = await http.post(path, json={})
            assert answer.status_code == 404
            assert answer.json()["detail"] == "there is no such callback"
        assert (await http.get("/a/video/callbacks/kling/forged")).status_code == 405
        assert (await http.post("/callbacks/kling/forged", json={})).text == "Not Found", (
            "the host's own answer"
        )


async def test_a_host_under_uvicorn_can_have_the_connections_of_serve(tmp_path: Path) -> None:
    port, url = address()
    video = service(tmp_path, url, http={"head_fields": 20})
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAEAAEA"}
    async with hosted(video, port, http=video.http_protocol()) as http:
        made = await http.post("/v1/jobs", json=order("kling"), headers=offer)
        assert made.status_code == 202, made.text
        many = {f"f{number}": "x" for number in range(20)}
        assert (await http.get("/healthz", headers=many)).status_code == 431


async def test_two_services_in_one_host_are_independent(tmp_path: Path) -> None:
    port, url = address()
    both = {name: service(tmp_path / name, f"{url}/{name}") for name in ("one", "two")}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with both["one"].lifespan(app), both["two"].lifespan(app):
            yield

    app = Starlette(
        routes=[Mount(f"/{name}", app=video) for name, video in both.items()], lifespan=lifespan
    )
    async with hosted(app, port) as http:
        jobs = {name: await video.client.submit(**order("kling")) for name, video in both.items()}
        for name in both:
            listed = (await http.get(f"/{name}/v1/jobs")).json()["data"]
            assert [job["id"] for job in listed] == [jobs[name].id]
            assert listed[0]["links"]["self"].startswith(f"{url}/{name}/")


async def test_the_hosts_own_code_needs_no_socket_and_no_key(tmp_path: Path) -> None:
    async with SimulatedVendors(render_seconds=0.1) as world:
        port, url = address()
        video = service(tmp_path, f"{url}/video", world, api_keys=[])
        app = Starlette(routes=[Mount("/video", app=video)], lifespan=video.lifespan)
        async with hosted(app, port):
            opened = asyncio.Event()
            async with video.client.events.stream(types="job.*", on_open=opened.set) as stream:
                received = asyncio.create_task(anext(stream))
                await opened.wait()
                job = await video.client.run(**order("kling"), timeout=20)
                first = await received
                assert (job.status, first.job and first.job.id) == ("succeeded", job.id)
                # A stream after an id reads the log too.
                async with video.client.events.stream(types="job.*", after=first.id) as later:
                    assert (await anext(later)).id == (await anext(stream)).id != first.id
            assert [job.id async for job in video.client.jobs.list()] == [job.id]


async def test_a_service_may_run_again_and_keeps_its_jobs(tmp_path: Path) -> None:
    video = service(tmp_path, "https://my.app/video")
    async with video.lifespan():
        job = await video.client.submit(**order("kling"))
        with pytest.raises(RuntimeError, match="runs already"):
            await video.lifespan().__aenter__()
    async with video.lifespan():
        assert (await video.client.jobs.get(job.id)).id == job.id


async def test_it_runs_without_a_host(tmp_path: Path) -> None:
    port, url = address()
    async with hosted(service(tmp_path, url), port) as http:
        assert (await http.get("/v1/jobs")).status_code == 200


async def test_without_the_hosts_lifespan_the_answer_says_what_is_missing(tmp_path: Path) -> None:
    video = service(tmp_path, "https://my.app/video")
    async with hosted(Starlette(routes=[Mount("/video", app=video)])) as http:
        answer = await http.post("/video/callbacks/kling/token", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "give `lifespan=video.lifespan` to the application" in answer.json()["detail"]
    with pytest.raises(Unavailable, match="lifespan=video"):
        _ = video.client
    assert not await asyncio.to_thread(os.listdir, tmp_path), "no file is created"


async def test_a_public_url_without_the_mounts_path_is_logged_once(tmp_path: Path) -> None:
    video = service(tmp_path, "https://my.app")
    app = Starlette(routes=[Mount("/video", app=video)], lifespan=video.lifespan)
    with structlog.testing.capture_logs() as logs:
        async with hosted(app) as http:
            for _ in range(2):
                await http.get("/video/healthz")
    warnings = [entry for entry in logs if "public_url" in entry["event"]]
    assert [entry["mounted_at"] for entry in warnings] == ["/video"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"databse_url": "x"}, "databse_url: there is no such setting; did you mean database_url?"),
        (
            {"accounts": {"main": {"vendor": "klign"}}},
            "accounts.main.vendor is 'klign'; known vendors",
        ),
        (
            {"database_url": "postgresql://u@127.0.0.1/d"},
            "secret_keys: required unless the database is a SQLite file",
        ),
    ],
)
def test_wrong_settings_are_refused_before_the_host_starts(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    urls = {"public_url": "https://my.app/video", "database_url": f"sqlite:///{tmp_path}/x.db"}
    with pytest.raises(ConfigError) as refused:
        Orchestrator(**urls | changed)
    assert words in str(refused.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("root_path", "path", "below_root"),
    [
        ("/video", "/video/v1/jobs", "/v1/jobs"),
        ("/video", "/video/", "/"),
        # A proxy has removed the prefix, and the server still has it as `root_path`.
        ("/video", "/v1/jobs", "/v1/jobs"),
        ("/vid", "/video/v1/jobs", "/video/v1/jobs"),
        ("/video", "/video", "/video"),
    ],
)
def test_only_the_path_of_the_mount_is_removed(root_path: str, path: str, below_root: str) -> None:
    assert below(root_path, path) == below_root
