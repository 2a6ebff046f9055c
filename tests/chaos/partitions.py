"""Network faults between replicas and PostgreSQL: delayed, slow, reset, half-closed or partitioned.

They affect one replica or all. A partition lasts longer than a lease; meanwhile a replica answers
503 in time, and its memory does not grow. The auditor checks the recovery.
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
from tests.chaos.testbed import Testbed
from tests.harness.audit import Finding
from tests.harness.processes import Replica

#: Seconds: more than a lease, and more than the timeouts of a query and of a connect.
_SECONDS = 18.0
#: Seconds within which a replica without its database answers: less than it needs to detect it
#: again.
_SOON = 8.0
#: Bytes by which the memory of a process may grow meanwhile.
_GROWTH = 64 << 20
#: The secret keys of the replicas.
_KEYS = Keys(["k" * 40])

Strike = Callable[[Testbed], Coroutine[None, None, None]]


def _disturb_all(mode: str, replicas: int) -> Strike:
    """Return a fault that resets all connections and disturbs the new ones until the load ends."""

    async def strike(bed: Testbed) -> None:
        await _replace_connections(bed.lines[:replicas], mode)
        await bed.pause(_SECONDS, _SECONDS)
        await asyncio.sleep(3.0)
        bed.hits += sum(line.counts[mode] for line in bed.lines)
        await _replace_connections(bed.lines[:replicas], "forward")

    return strike


async def _replace_connections(lines: list[Proxy], mode: str) -> None:
    for line in lines:
        line.modes = (mode,)
        line.reset()


def _black_hole(replicas: int, *, kept: bool) -> Strike:
    """Return a fault that blocks all traffic, then lets new connections through.

    `kept`: blocked bytes arrive late; otherwise they are lost.
    """

    async def strike(bed: Testbed) -> None:
        await bed.pause(1.0, 3.0)
        struck = [*zip(bed.replicas, bed.lines, strict=True)][:replicas]
        sizes = [_size(replica) for replica, _ in struck]
        bed.hits += sum(line.hold() for _, line in struck)
        await asyncio.sleep(_SECONDS)
        async with httpx.AsyncClient(headers=bed.load.http.headers, timeout=_SOON) as http:
            for findings in await asyncio.gather(
                *(_check_answers(http, replica) for replica, _ in struck)
            ):
                bed.wrong += findings
        for (replica, line), size in zip(struck, sizes, strict=True):
            line.let_go(kept=kept)
            if (grown := _size(replica) - size) > _GROWTH:
                bed.wrong.append(
                    Finding("wrong", f"{replica.name} grew by {grown} bytes during a partition")
                )

    return strike


async def _check_answers(http: httpx.AsyncClient, replica: Replica) -> list[Finding]:
    """Return wrong answers of a replica that cannot reach its database."""
    wrong: list[Finding] = []
    token = _KEYS.mint(
        "cloudsway", Callback("job_unknown", 1), datetime.now(UTC) + timedelta(hours=1)
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
    """Return the resident memory of a process in bytes (proc(5)); pages are 4 KiB."""
    assert replica.child is not None
    return int(Path(f"/proc/{replica.child.pid}/statm").read_text().split()[1]) * 4096


def _one_and_all(words: str, strike: Callable[[int], Strike]) -> tuple[Fault, Fault]:
    single, all_replicas = (f"database line: {words}, {whose}" for whose in ("one", "all"))
    return (
        Fault(single, strike(1), on=("postgresql",), remote=True),
        Fault(all_replicas, strike(3), on=("postgresql",), remote=True),
    )


FAULTS = (
    *_one_and_all("late", lambda replicas: _disturb_all("late", replicas)),
    *_one_and_all("trickle", lambda replicas: _disturb_all("trickle", replicas)),
    *_one_and_all("reset", lambda replicas: _disturb_all("reset later", replicas)),
    *_one_and_all("half-close", lambda replicas: _disturb_all("half-close later", replicas)),
    *_one_and_all("black hole", lambda replicas: _black_hole(replicas, kept=True)),
    *_one_and_all("black hole, lost", lambda replicas: _black_hole(replicas, kept=False)),
)
