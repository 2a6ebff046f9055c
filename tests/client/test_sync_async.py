"""The two faces are one client: the same names, arguments and words; and it is a stranger to the service."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
import subprocess
import sys
from collections.abc import Coroutine, Iterator
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
from tests.harness.scripted_client import a_job

SECRET = "orc_" + "s" * 40


def calls(it: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every public name of a client and what it is, resources by their calls."""
    for name in sorted(dir(it)):
        if name.startswith("_"):
            continue
        found = getattr(it, name)
        if isinstance(found, Resource):
            yield from calls(found, f"{prefix}{name}.")
        else:
            yield prefix + name, found


def test_both_faces_offer_the_same() -> None:
    blocking, awaited = dict(calls(Client())), dict(calls(AsyncClient()))
    assert list(blocking) == list(awaited)
    assert len(blocking) > 40
    for name, one in blocking.items():
        other = awaited[name]
        if not callable(one):
            assert one == other
            continue
        assert inspect.signature(one) == inspect.signature(other), name
        assert inspect.getdoc(one) == inspect.getdoc(other), name
        assert not inspect.iscoroutinefunction(one), name
        lazy = name.rpartition(".")[2] in ("list", "timeline", "stream")
        assert inspect.iscoroutinefunction(other) is not lazy, name


@pytest.mark.parametrize(
    "pair", [(Client, AsyncClient), (Pages, AsyncPages), (EventStream, AsyncEventStream)]
)
def test_what_has_two_classes_has_one_description(pair: tuple[type, type]) -> None:
    one, other = (
        {name: found for name, found in vars(it).items() if not name.startswith("_")} for it in pair
    )
    assert one.keys() == other.keys()
    for name in one:
        assert inspect.getdoc(one[name]) == inspect.getdoc(other[name])
        if callable(one[name]):
            assert [*inspect.signature(one[name]).parameters] == [
                *inspect.signature(other[name]).parameters
            ]
    plain = (
        str(inspect.getdoc(pair[1]))
        .replace("async ", "")
        .replace("await ", "")
        .replace("Async", "")
    )
    said = str(inspect.getdoc(pair[0]))
    assert plain.splitlines()[2:] == said.splitlines()[2:]


def test_everything_public_is_described_and_typed() -> None:
    for name, found in calls(Client()):
        if callable(found):
            signature = inspect.signature(found)
            assert inspect.getdoc(found), name
            assert signature.return_annotation is not inspect.Signature.empty, name
            assert all(
                one.annotation is not inspect.Parameter.empty
                for one in signature.parameters.values()
            ), name
    assert sorted(public.__all__, key=str.lower) == sorted(set(public.__all__), key=str.lower)
    tree = str(errors.__doc__)
    assert {name for name in vars(errors) if name in public.__all__} <= {
        word.strip("├└─│ ") for word in tree.split()
    }


def served(document: Any) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, json=document))


def test_types_are_known_to_who_checks_them() -> None:
    """`mypy` reads this too."""
    with Client(http=httpx.Client(transport=served(a_job()))) as client:
        assert_type(client.jobs.get("job_1"), Job)
        assert_type(client.jobs.list(), Pages[Job])
        assert_type(client.events.stream(), EventStream)
        assert client.submit(model="m", input={"prompt": "p"}).id == a_job()["id"]


async def test_types_are_known_to_who_awaits_too() -> None:
    async with AsyncClient(http=httpx.AsyncClient(transport=served(a_job()))) as client:
        waiting = assert_type(client.jobs.get("job_1"), Coroutine[Any, Any, Job])
        assert (await waiting).id == a_job()["id"]
        assert_type(client.jobs.list(), AsyncPages[Job])
        stream = assert_type(client.events.stream(), AsyncEventStream)
        assert_type(stream.__anext__(), Coroutine[Any, Any, Event]).close()


def test_a_client_of_the_callers_own_is_used_and_left_open() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=a_job())

    http = httpx.Client(transport=httpx.MockTransport(answer))
    with Client("https://there.example/base", SECRET, http=http, user_agent="mine/1") as client:
        client.jobs.get("job_1")
        client.submit(model="m", input={"prompt": "p"}, deadline=5, wait=90, metadata={"a": 1})
    assert not http.is_closed
    one, other = seen
    assert str(one.url) == "https://there.example/base/v1/jobs/job_1"
    assert one.headers["authorization"] == f"Bearer {SECRET}"
    assert one.headers["user-agent"].startswith("mine/1 orchestrator-python/")
    assert other.headers["prefer"] == "wait=60"
    assert len(other.headers["idempotency-key"]) >= 32
    assert other.content == b'{"model":"m","input":{"prompt":"p"},"metadata":{"a":1},"deadline":5}'
    assert other.extensions["timeout"]["read"] == 90


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
    shown = " ".join([caplog.text, *(f"{one} {one!r}" for one in objects)])
    assert "there.example" in shown
    assert SECRET not in shown
    assert client.server == "http://there.example"
    assert "pass" not in repr(client)


def test_it_imports_nothing_of_the_service() -> None:
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
    }
    ours = {name.split(".")[1] for name in loaded if name.startswith("orchestrator.")}
    assert ours == {"client", "schemas", "foundation"}


def test_type_checkers_are_told_to_look() -> None:
    assert Path(orchestrator.__file__).with_name("py.typed").is_file()
    assert importlib.metadata.version("orchestrator") == orchestrator.__version__
