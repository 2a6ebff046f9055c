"""The network between replicas and PostgreSQL: late, slow, reset, half closed, or gone for longer than claims last.

One replica's alone, while the others go on; or that of them all. A replica whose network is gone says so meanwhile, to
everybody and soon, and does not grow; what becomes of it afterwards is the auditor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from orchestrator.foundation.signing.secret_keys import Callback, Keys
from tests.chaos.proxy import Proxy
from tests.chaos.run import Fault
from tests.chaos.stage import Stage
from tests.harness.audit import Finding
from tests.harness.processes import Replica

#: Seconds: more than a claim lasts, and more than it takes to give up both an answer and a connection.
_LONG = 18.0
#: Seconds in which a replica answers that cannot reach its database: less than it takes to find that out again.
_SOON = 8.0
#: Bytes that a process may grow by meanwhile, whatever it is asked.
_GROWTH = 64 << 20
#: Those the replicas have.
_KEYS = Keys(["k" * 40])

Strike = Callable[[Stage], Coroutine[None, None, None]]


def _bad(way: str, replicas: int) -> Strike:
    """Return a strike that treats every connection alike, those there are being replaced, until the load ends."""

    async def strike(it: Stage) -> None:
        await _renewed(it.lines[:replicas], way)
        await it.pause(_LONG, _LONG)
        await asyncio.sleep(3.0)
        it.hits += sum(line.treated[way] for line in it.lines)
        await _renewed(it.lines[:replicas], "straight")

    return strike


async def _renewed(lines: list[Proxy], way: str) -> None:
    for line in lines:
        line.ways = (way,)
        line.reset()


def _hole(replicas: int, *, kept: bool) -> Strike:
    """Return a strike that lets nothing through for long, and then what is new; and what is old, late or never."""

    async def strike(it: Stage) -> None:
        await it.pause(1.0, 3.0)
        struck = [*zip(it.replicas, it.lines, strict=True)][:replicas]
        sizes = [_size(replica) for replica, _ in struck]
        it.hits += sum(line.hold() for _, line in struck)
        await asyncio.sleep(_LONG)
        async with httpx.AsyncClient(headers=it.load.http.headers, timeout=_SOON) as http:
            for told in await asyncio.gather(*(_told(http, replica) for replica, _ in struck)):
                it.wrong += told
        for (replica, line), size in zip(struck, sizes, strict=True):
            line.let_go(kept=kept)
            if (grown := _size(replica) - size) > _GROWTH:
                it.wrong.append(
                    Finding("wrong", f"{replica.name} grew by {grown} bytes without its database")
                )

    return strike


async def _told(http: httpx.AsyncClient, replica: Replica) -> list[Finding]:
    """Return what is wrong with the answers of a replica that cannot reach its database."""
    wrong: list[Finding] = []
    token = _KEYS.mint(
        "cloudsway", Callback("job_of_nobody", 1), datetime.now(UTC) + timedelta(hours=1)
    )
    push = ("POST", f"/callbacks/cloudsway/{token}", 503)
    for method, path, expected in (
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 503),
        ("GET", "/v1/jobs", 503),
        push,
    ):
        try:
            answer = await http.request(
                method, replica.url + path, json={} if method == "POST" else None
            )
        except httpx.TransportError as error:
            wrong.append(Finding("stuck", f"{replica.name} {path}: {type(error).__name__}"))
            continue
        if answer.status_code != expected or (
            expected == 503 and "retry-after" not in answer.headers
        ):
            wrong.append(
                Finding("wrong", f"{replica.name} {path}: {answer.status_code} {answer.text}")
            )
    return wrong


def _size(replica: Replica) -> int:
    """Return the bytes of memory a process holds (proc(5)); pages are of 4 KiB."""
    assert replica.child is not None
    return int(Path(f"/proc/{replica.child.pid}/statm").read_text().split()[1]) * 4096


def _both(words: str, strike: Callable[[int], Strike]) -> tuple[Fault, Fault]:
    one, everyone = (f"database line: {words}, {whose}" for whose in ("one", "all"))
    return (
        Fault(one, strike(1), on=("postgresql",), remote=True),
        Fault(everyone, strike(3), on=("postgresql",), remote=True),
    )


FAULTS = (
    *_both("late", lambda replicas: _bad("late", replicas)),
    *_both("trickle", lambda replicas: _bad("trickle", replicas)),
    *_both("reset", lambda replicas: _bad("brief", replicas)),
    *_both("half-close", lambda replicas: _bad("half-close later", replicas)),
    *_both("black hole", lambda replicas: _hole(replicas, kept=True)),
    *_both("black hole for good", lambda replicas: _hole(replicas, kept=False)),
)
