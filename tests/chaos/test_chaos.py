"""The chaos suite itself: faults occur, and the auditor detects false reports."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.connection_modes import MODES
from tests.chaos.fault_matrix import FAULTS
from tests.chaos.kills import RANDOM
from tests.chaos.postgres_server import running
from tests.chaos.proxy import Proxy
from tests.chaos.run import Fault, Run, execute
from tests.chaos.testbed import Size
from tests.harness.audit import Json, Kind, Observed, findings
from tests.harness.streams import accepting

#: Vendors with a lookup: without one, a lost submission takes seconds to expire.
SMALL = Size(orders=16, rate=8, accounts=("kling", "cloudsway", "kling_new"))


def fault_named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def seen(run: Run, **changed: object) -> Observed:
    assert run.load is not None
    return Observed(run.load.owned, run.report | changed, SMALL.limit)


def false_reports(run: Run) -> list[tuple[Kind, Observed]]:
    """Return reports that contradict the database, each with the finding it must cause."""
    observed, received = seen(run), run.report["subscriber"]
    push: Json = run.report["pushes"][0] | {
        "vendor_task_id": "unknown",
        "external_task_id": "of",
        "status": 200,
    }
    job = observed.owned[0]
    render = {"vendor": "kling", "external_task_id": job}
    return [
        ("lost", replace(observed, owned=[*observed.owned, "job_unknown"])),
        ("duplicated", replace(observed, owned=observed.owned[1:])),
        ("lost", seen(run, pushes=[push])),
        (
            "duplicated",
            seen(run, subscriber=received | {"completions": received["completions"] | {job: 2}}),
        ),
        ("lost", seen(run, subscriber=received | {"completions": {}})),
        ("wrong", seen(run, digests=["of other bytes"])),
        ("wrong", seen(run, ordered=run.report["ordered"][::-1])),
        ("lost", seen(run, ordered=[])),
        ("duplicated", seen(run, double_renders=[render])),
        ("duplicated", seen(run, repeated={"kling": 1})),
        ("wrong", replace(observed, limit=0)),
    ]


@pytest.mark.proof
async def test_kills_on_sqlite_lose_nothing_and_the_auditor_detects_false_reports(
    tmp_path: Path,
) -> None:
    run = await execute(RANDOM, tmp_path, 3, None, SMALL)
    assert run.wrong == []
    assert run.hits > 0
    assert not all(accepted for *_, accepted in run.report["ordered"])
    assert run.books is not None
    for kind, report in false_reports(run):
        assert kind in {finding.kind for finding in findings(run.books, report)}


@pytest.mark.proof
async def test_three_replicas_on_postgresql_that_crash_after_sending_lose_nothing(
    tmp_path: Path,
) -> None:
    async with running() as server:
        run = await execute(fault_named("crash: sent, answer lost"), tmp_path, 3, server, SMALL)
    assert run.wrong == []
    assert run.hits > 0


@contextlib.asynccontextmanager
async def echo(mode: str) -> AsyncIterator[Proxy]:
    """Run an echo server behind a proxy."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"."))
            await writer.drain()
        writer.close()

    async with accepting(answer) as port, Proxy(lambda: [port], random.Random(1)) as proxy:
        proxy.modes = (mode,)
        yield proxy


async def exchange(proxy: Proxy, message: bytes) -> bytes | None:
    """Return the received bytes; None if the connection breaks or nothing arrives."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(2):
            writer.write(message)
            return await reader.readexactly(len(message))
    except asyncio.IncompleteReadError as error:
        return error.partial
    except (ConnectionError, TimeoutError):
        return None
    finally:
        writer.transport.abort()


#: Modes that disturb an exchange after its answer, or only slow it down.
_WHOLE = (
    "forward", "reset later", "half-close later", "late", "trickle", "trickle request",
    "close when idle", "garbage behind",
)  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
async def test_a_proxy_disturbs_a_connection_as_its_mode_says(mode: str) -> None:
    message = b"x" * 399 + b"."
    async with echo(mode) as proxy:
        answer = await exchange(proxy, message)
        assert proxy.counts == {mode: 1}
    if mode in _WHOLE:
        assert answer == message
    else:
        assert answer is None or len(answer) < len(message)
