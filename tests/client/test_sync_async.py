"""`Client` and `AsyncClient` have the same methods; the client imports nothing of the service."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

import httpx
import pytest

import orchestrator
import orchestrator.client as public
from orchestrator.client import (
    AsyncClient,
    AsyncEventStream,
    AsyncPages,
    Client,
    EventStream,
    Pages,
    errors,
)
from orchestrator.client.sync_async import Resource
from orchestrator.schemas import Event, Job
from tests.harness.scripted_client import job_document

SECRET = "orc_" + "s" * 40


def members(target: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the public members of a client and of its resources, with their names."""
    for name in sorted(dir(target)):
        if name.startswith("_"):
            continue
        found = getattr(target, name)
        if isinstance(found, Resource):
            yield from members(found, f"{prefix}{name}.")
        else:
            yield prefix + name, found


def test_both_clients_have_the_same_methods() -> None:
    sync_members, async_members = dict(members(Client())), dict(members(AsyncClient()))
    assert list(sync_members) == list(async_members)
    assert len(sync_members) > 40
    for name, sync_member in sync_members.items():
        async_member = async_members[name]
        if not callable(sync_member):
            assert sync_member == async_member
            continue
        assert inspect.signature(sync_member) == inspect.signature(async_member), name
        assert inspect.getdoc(sync_member) == inspect.getdoc(async_member), name
        assert not inspect.iscoroutinefunction(sync_member), name
        lazy = name.rpartition(".")[2] in ("list", "timeline", "pushes", "stream")
        assert inspect.iscoroutinefunction(async_member) is not lazy, name


@pytest.mark.parametrize(
    "pair", [(Client, AsyncClient), (Pages, AsyncPages), (EventStream, AsyncEventStream)]
)
def test_paired_classes_have_the_same_documentation(pair: tuple[type, type]) -> None:
    sync_members, async_members = (
        {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        for kind in pair
    )
    assert sync_members.keys() == async_members.keys()
    for name, member in sync_members.items():
        assert inspect.getdoc(member) == inspect.getdoc(async_members[name])
        if callable(member):
            parameters = inspect.signature(member).parameters
            assert [*parameters] == [*inspect.signature(async_members[name]).parameters]
    plain = (
        str(inspect.getdoc(pair[1]))
        .replace("async ", "")
        .replace("await ", "")
        .replace("Async", "")
    )
    assert plain.splitlines()[2:] == str(inspect.getdoc(pair[0])).splitlines()[2:]


def test_every_public_method_is_documented_and_typed() -> None:
    for name, member in members(Client()):
        if callable(member):
            signature = inspect.signature(member)
            assert inspect.getdoc(member), name
            assert signature.return_annotation is not inspect.Signature.empty, name
            assert all(
                parameter.annotation is not inspect.Parameter.empty
                for parameter in signature.parameters.values()
            ), name
    assert sorted(public.__all__, key=str.lower) == sorted(set(public.__all__), key=str.lower)
    tree = str(errors.__doc__)
    assert {name for name in vars(errors) if name in public.__all__} <= {
        word.strip("├└─│ ") for word in tree.split()
    }


def responding(document: Any) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, json=document))


def test_type_checkers_see_the_types_of_the_sync_client() -> None:
    """`mypy` checks this function: an unneeded `type: ignore` is an error."""
    with Client(http=httpx.Client(transport=responding(job_document()))) as client:
        assert_type(client.jobs.get("job_1"), Job)
        assert_type(client.jobs.list(), Pages[Job])
        assert_type(client.events.stream(), EventStream)
        job = client.submit(model="m", input={"prompt": "p"}, account="a", deadline=5)
        assert_type(job, Job)
        assert job.id == job_document()["id"]
        for call in (
            lambda: client.submit(model="m", input={}, deadlin=5),  # type: ignore[call-arg]
            lambda: client.run(model="m", input={}, wait=5),  # type: ignore[call-arg]
            lambda: client.replays.count(rate=5),  # type: ignore[call-arg]
            lambda: client.subscribers.replay("s", event="e"),  # type: ignore[call-arg]
            lambda: client.subscribers.create("https://x", type="e"),  # type: ignore[call-arg]
        ):
            with pytest.raises(TypeError, match="argument"):
                call()
        with pytest.raises(TypeError, match="model"):
            client.submit(input={})  # type: ignore[call-arg]


async def test_type_checkers_see_the_types_of_the_async_client() -> None:
    async with AsyncClient(http=httpx.AsyncClient(transport=responding(job_document()))) as client:
        waiting = assert_type(client.jobs.get("job_1"), Coroutine[Any, Any, Job])
        assert (await waiting).id == job_document()["id"]
        assert_type(client.jobs.list(), AsyncPages[Job])
        submitting = client.submit(model="m", input={}, metadata={"a": 1})
        assert (await assert_type(submitting, Coroutine[Any, Any, Job])).id == job_document()["id"]
        with pytest.raises(TypeError, match="deadlin"):
            await client.submit(model="m", input={}, deadlin=5)  # type: ignore[call-arg]
        stream = assert_type(client.events.stream(), AsyncEventStream)
        assert_type(stream.__anext__(), Coroutine[Any, Any, Event]).close()


def test_an_httpx_client_of_the_caller_is_used_and_left_open() -> None:
    seen: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=job_document())

    http = httpx.Client(transport=httpx.MockTransport(respond))
    with Client("https://there.example/base", SECRET, http=http, user_agent="mine/1") as client:
        client.jobs.get("job_1")
        start = datetime(2026, 11, 20, 10, tzinfo=UTC)
        client.submit(
            model="m", input={"prompt": "p"}, deadline=5, wait=90, metadata={"a": 1},
            start_after=start, priority=2,
        )  # fmt: skip
    assert not http.is_closed
    read, submitted = seen
    assert str(read.url) == "https://there.example/base/v1/jobs/job_1"
    assert read.headers["authorization"] == f"Bearer {SECRET}"
    assert read.headers["user-agent"].startswith("mine/1 orchestrator-python/")
    assert submitted.headers["prefer"] == "wait=60"
    assert len(submitted.headers["idempotency-key"]) >= 32
    assert (
        submitted.content == b'{"model":"m","input":{"prompt":"p"},"metadata":{"a":1},"deadline":5,'
        b'"start_after":"2026-11-20T10:00:00Z","priority":2}'
    )
    assert submitted.extensions["timeout"]["read"] == 90


def test_a_key_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refuse = httpx.MockTransport(
        lambda _: httpx.Response(401, json={"title": "No", "code": "unauthorized"})
    )
    client = Client("http://user:pass@there.example", SECRET, http=httpx.Client(transport=refuse))
    with pytest.raises(errors.Unauthorized) as refused:
        client.jobs.get("job_1")
    objects: list[object] = [
        client,
        client.jobs,
        vars(client),
        client.server,
        refused.value,
        vars(refused.value),
    ]
    texts = " ".join([caplog.text, *(f"{shown} {shown!r}" for shown in objects)])
    assert "there.example" in texts
    assert SECRET not in texts
    assert client.server == "http://there.example"
    assert "pass" not in repr(client)


def test_importing_the_client_imports_nothing_of_the_service() -> None:
    code = "import sys, orchestrator.client; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {
        "sqlalchemy",
        "sqlmodel",
        "uvicorn",
        "starlette",
        "alembic",
        "apscheduler",
        "aiohttp",
        "typer",
        "cryptography",
        "structlog",
        "prometheus_client",
        "jwt",
        "itsdangerous",
    }
    ours = {name.split(".")[1] for name in loaded if name.startswith("orchestrator.")}
    assert ours == {"client", "schemas", "foundation"}


def test_the_package_is_marked_as_typed() -> None:
    assert Path(orchestrator.__file__).with_name("py.typed").is_file()
    assert importlib.metadata.version("orchestrator") == orchestrator.__version__
