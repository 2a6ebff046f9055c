"""The life cycle: ticks without a database, the stages of each role, and the types of stages."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import structlog

from orchestrator.app import application, build
from orchestrator.database.store import Tx
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.lifecycle import running, schedule
from orchestrator.engine.poll import Poller
from orchestrator.engine.receive import Receiver
from orchestrator.engine.replay import Replayer
from orchestrator.engine.retention import Retention
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.submit import Submitter
from orchestrator.engine.ticker import run_tick
from orchestrator.foundation.errors import ConfigError, Unavailable
from tests.harness import databases
from tests.harness.runtime import settings


async def test_a_tick_without_a_database_logs_one_warning() -> None:
    async def away(_: Tx) -> None:
        raise Unavailable("the database is not available: gone")

    with structlog.testing.capture_logs() as logged:
        await run_tick("away", away, None)
    assert [(line["log_level"], line["tick"]) for line in logged] == [("warning", "away")]


async def test_a_tick_with_a_bug_raises_it() -> None:
    async def broken(_: Tx) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        await run_tick("broken", broken, None)


STAGES = {"submit", "poll", "deliver", "replay"}
OF_ALL, WATCHES = {"beat", "checkpoint", "discipline", "learn"}, {"watch pushes", "public URL"}


@pytest.mark.parametrize(
    ("role", "stages", "ticks"),
    [
        ("all", STAGES, {"wake", "recover", "holds", "expire", "retain"} | WATCHES | OF_ALL),
        ("worker", STAGES, {"wake", "recover", "holds", "expire", "retain"} | WATCHES | OF_ALL),
        ("api", set(), OF_ALL),
    ],
)
async def test_a_role_runs_its_stages_and_ticks(
    tmp_path: Path, role: str, stages: set[str], ticks: set[str]
) -> None:
    address = databases.url("postgresql", tmp_path)
    runtime = build(settings(tmp_path, database_url=address, role=role))
    try:
        async with running(runtime):
            assert set(runtime.notifier.workers) == stages
            assert {tick.name for tick in schedule(runtime).ticks} == ticks
    finally:
        databases.drop(address)


@pytest.mark.parametrize("path", ["/callbacks/main/token", "/v1/jobs", "/"])
async def test_a_worker_answers_requests_with_503_and_retry_after(
    tmp_path: Path, path: str
) -> None:
    """A vendor that gets a 404 does not repeat its push."""
    address = databases.url("postgresql", tmp_path)
    app = application(build(settings(tmp_path, database_url=address, role="worker")))
    try:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://w") as client,
        ):
            answer = await client.post(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert (await client.get("/readyz")).status_code == 200
    finally:
        databases.drop(address)


def test_sqlite_refuses_a_role_other_than_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use PostgreSQL"):
        build(settings(tmp_path, role="api"))


async def test_followers_of_the_feed_end_before_the_database_closes(
    tmp_path: Path, everywhere: None
) -> None:
    """Not every server announces its end before it ends the lifespan."""
    runtime = build(settings(tmp_path))
    async with contextlib.AsyncExitStack() as held:
        async with running(runtime):
            over = await held.enter_async_context(runtime.feed.following())
            assert not over.is_set()
        assert over.is_set()
        assert runtime.feed.closed


async def test_the_database_is_opened_and_closed_off_the_loop(
    tmp_path: Path, everywhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration, another program's lock or a silent server would stop a host application."""
    runtime, threads = build(settings(tmp_path)), list[threading.Thread]()

    def noted(run: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            threads.append(threading.current_thread())
            run()

        return call

    for name in ("start", "close"):
        monkeypatch.setattr(runtime.store, name, noted(getattr(runtime.store, name)))
    async with running(runtime):
        assert len(threads) == 1
    assert len(threads) == 2
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    "stage", [Submitter, Poller, Deliverer, Replayer, Receiver, Expiry, Retention]
)
def test_a_stage_is_given_what_its_fields_name(stage: type[Any]) -> None:
    """`Runtime.assemble` matches by name: this holds the types, which no type checker sees."""
    given = get_type_hints(Runtime)
    fields = [field.name for field in dataclasses.fields(stage) if field.init]
    assert {name: get_type_hints(stage)[name] for name in fields} == {
        name: given[name] for name in fields
    }
