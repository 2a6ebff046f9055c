"""Steady load on three replicas with PostgreSQL, one killed every few seconds: throughput over
time.

Some are killed at random moments, others in the middle of work, which resumes when its lease
expires.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.crashes import in_the_middle
from tests.chaos.kills import every
from tests.chaos.postgres_server import running
from tests.chaos.run import Fault, Run, execute
from tests.chaos.testbed import Size
from tests.harness.audit import Json
from tests.harness.short_leases import LEASE

#: Orders per second.
RATE = 8.0
#: Vendors with a lookup: a lost submission is found and completed.
_ACCOUNTS = ("kling", "cloudsway", "kling_new")
#: Vendors without faults: every delay is the product's.
_NO_FAULTS: Json = {
    "cut_answer": 0,
    "drop_push": 0,
    "duplicate_push": 0,
    "server_error": 0,
    "fail_render": 0,
}
#: Seconds after an expired lease: two lookups spaced by the vendor's lag, one more submission, a
#: render of at most 1.2 s, and a tick for each.
_RECOVERY_SECONDS = 6.0
_CHART_WIDTH = 60


async def run(seconds: float, seed: int) -> bool:
    """Run and print the figures. Return True if no check fails."""
    fault = Fault(
        "steady", every(4.0, 8.0, signal.SIGKILL), _NO_FAULTS, in_the_middle, on=("postgresql",)
    )
    size = Size(round(seconds * RATE), RATE, _ACCOUNTS, limit=50)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    async with running() as server:
        done = await execute(fault, folder, seed, server, size)
        found = figures(done)
    print(plot(found["completions_per_second"]))
    print(json.dumps(found))
    for finding in done.wrong[:20]:
        print(f"  ! {finding.kind}: {finding.words}")
    if not done.wrong:
        shutil.rmtree(folder)
    return not done.wrong and found["slowest_seconds"] <= found["bound_seconds"]


def figures(done: Run) -> Json:
    """Return the figures of a run."""
    assert done.books is not None
    jobs = done.books.rows("SELECT created_at, finished_at FROM job ORDER BY created_at")
    delays = sorted(
        (row["finished_at"] - row["created_at"]) / 1000 for row in jobs if row["finished_at"]
    )
    began = jobs[0]["created_at"]
    ends = Counter((row["finished_at"] - began) // 1000 for row in jobs if row["finished_at"])
    completions = [ends[second] for second in range(max(ends) + 1)]
    return {
        "jobs": len(jobs),
        "kills": done.hits,
        "findings": len(done.wrong),
        "lost": done.count("lost"),
        "orders_per_second": RATE,
        "completions_per_second": completions,
        "longest_silence_seconds": _longest_gap(completions),
        "median_seconds": delays[len(delays) // 2],
        "p99_seconds": delays[len(delays) * 99 // 100],
        "slowest_seconds": delays[-1],
        "lease_seconds": LEASE,
        "later_than_lease": sum(delay > LEASE for delay in delays),
        "bound_seconds": LEASE + _RECOVERY_SECONDS,
    }


def _longest_gap(completions: list[int]) -> int:
    longest = now = 0
    for count in completions:
        now = 0 if count else now + 1
        longest = max(longest, now)
    return longest


def plot(completions: list[int]) -> str:
    """Return a text chart with a line for every few seconds."""
    step = max(1, len(completions) // 40)
    resources = [
        sum(completions[at : at + step]) / len(completions[at : at + step])
        for at in range(0, len(completions), step)
    ]
    most = max(resources)
    return "\n".join(
        f"{at * step:4} s {mean:5.1f}/s {'#' * round(mean / most * _CHART_WIDTH)}"
        for at, mean in enumerate(resources)
    )
