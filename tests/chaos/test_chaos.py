"""The harness of `make chaos` itself: it strikes, the auditor sees, and what it sees is well."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.kills import RANDOM
from tests.chaos.nursery import nursery
from tests.chaos.proxy import Proxy
from tests.chaos.run import Fault, Run, execute
from tests.chaos.server import running
from tests.chaos.stage import Means, Size
from tests.chaos.table import FAULTS
from tests.chaos.ways import WAYS
from tests.harness.audit import Json, Kind, Observed, findings
from tests.harness.streams import accepting

pytestmark = pytest.mark.long

#: Of vendors that can be asked: what they cannot tell takes seconds to give up on.
SMALL = Size(orders=16, rate=8, accounts=("kling", "cloudsway", "kling_new"))


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def seen(run: Run, **changed: object) -> Observed:
    assert run.load is not None
    return Observed(run.load.owned, run.report | changed, SMALL.limit)


def lies(run: Run) -> list[tuple[Kind, Observed]]:
    """Return what parties outside could say that does not fit the books, each with what it would mean."""
    told, heard = seen(run), run.report["subscriber"]
    push: Json = run.report["pushes"][0] | {
        "vendor_task_id": "unheard of",
        "external_task_id": "of",
        "status": 200,
    }
    job = told.owned[0]
    render = {"vendor": "kling", "external_task_id": job}
    return [
        ("lost", replace(told, owned=[*told.owned, "job_never_heard_of"])),
        ("duplicated", replace(told, owned=told.owned[1:])),
        ("lost", seen(run, pushes=[push])),
        (
            "duplicated",
            seen(run, subscriber=heard | {"completions": heard["completions"] | {job: 2}}),
        ),
        ("lost", seen(run, subscriber=heard | {"completions": {}})),
        ("wrong", seen(run, digests=["of other bytes"])),
        ("duplicated", seen(run, double_renders=[render])),
        ("duplicated", seen(run, repeated={"kling": 1})),
        ("wrong", replace(told, limit=0)),
    ]


async def test_killed_on_sqlite_it_loses_nothing_and_the_auditor_would_see(tmp_path: Path) -> None:
    async with nursery() as born:
        run = await execute(RANDOM, tmp_path, 3, Means(spawn=born.spawn), SMALL)
    assert run.wrong == []
    assert run.hits > 0
    assert run.books is not None
    for kind, lie in lies(run):
        assert kind in {one.kind for one in findings(run.books, lie)}


async def test_three_replicas_on_postgresql_that_die_after_sending_lose_nothing(
    tmp_path: Path,
) -> None:
    async with nursery() as born, running() as server:
        run = await execute(
            named("crash: sent, answer lost"), tmp_path, 3, Means(server, born.spawn), SMALL
        )
    assert run.wrong == []
    assert run.hits > 0


@contextlib.asynccontextmanager
async def echo(way: str) -> AsyncIterator[Proxy]:
    """A server that answers with what it was sent, behind a proxy."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"."))
            await writer.drain()
        writer.close()

    async with accepting(answer) as port, Proxy(lambda: [port], random.Random(1)) as proxy:
        proxy.ways = (way,)
        yield proxy


async def said(proxy: Proxy, words: bytes) -> bytes | None:
    """Return what comes back; None if the connection breaks or nothing comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(2):
            writer.write(words)
            return await reader.readexactly(len(words))
    except asyncio.IncompleteReadError as error:
        return error.partial
    except (ConnectionError, TimeoutError):
        return None
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("way", WAYS)
async def test_a_proxy_treats_a_connection_as_it_is_told(way: str) -> None:
    words = b"x" * 399 + b"."
    async with echo(way) as proxy:
        back = await said(proxy, words)
        assert proxy.treated == {way: 1}
    if way in ("straight", "brief", "half-close later", "late", "trickle", "trickle request"):
        assert back == words
    else:
        assert back is None or len(back) < len(words)
