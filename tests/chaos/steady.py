"""Three replicas on PostgreSQL under a steady load, one killed every few seconds: what gets through, and when.

Some are killed at any moment, others in the middle of a piece of work, which then comes back with its lease.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.kills import every
from tests.chaos.nursery import nursery
from tests.chaos.points import in_the_middle
from tests.chaos.run import Fault, Run, execute
from tests.chaos.server import running
from tests.chaos.stage import Means, Size
from tests.harness.audit import Json
from tests.harness.short_leases import LEASE

#: Orders a second.
RATE = 8.0
#: Can be asked about: what is lost on the way is found again, and made.
_ACCOUNTS = ("kling", "cloudsway", "kling_new")
#: Vendors that do as they should: every delay is ours.
_WELL: Json = {
    "cut_answer": 0,
    "drop_push": 0,
    "duplicate_push": 0,
    "server_error": 0,
    "fail_render": 0,
}
#: Seconds for what follows a claim that ran out: two questions spaced by the vendor's lag, one more submission, a
#: render of at most 1.2 s, and a tick for each.
_AFTER = 6.0
_WIDE = 60


async def run(seconds: float, seed: int) -> bool:
    """Run and print; return whether there was nothing to complain of."""
    fault = Fault(
        "steady", every(4.0, 8.0, signal.SIGKILL), _WELL, in_the_middle, on=("postgresql",)
    )
    size = Size(round(seconds * RATE), RATE, _ACCOUNTS, limit=50)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    async with nursery() as born, running() as server:
        done = await execute(fault, folder, seed, Means(server, born.spawn), size)
        found = figures(done)
    print(plot(found["completions_per_second"]))
    print(json.dumps(found))
    for one in done.wrong[:20]:
        print(f"  ! {one.kind}: {one.words}")
    if not done.wrong:
        shutil.rmtree(folder)
    return not done.wrong and found["slowest_seconds"] <= found["bound_seconds"]


def figures(done: Run) -> Json:
    """Return what the run came to."""
    assert done.books is not None
    jobs = done.books.rows("SELECT created_at, finished_at FROM job ORDER BY created_at")
    delays = sorted(
        (row["finished_at"] - row["created_at"]) / 1000 for row in jobs if row["finished_at"]
    )
    began = jobs[0]["created_at"]
    ends = Counter((row["finished_at"] - began) // 1000 for row in jobs if row["finished_at"])
    through = [ends[second] for second in range(max(ends) + 1)]
    return {
        "jobs": len(jobs),
        "kills": done.hits,
        "complaints": len(done.wrong),
        "lost": done.count("lost"),
        "orders_per_second": RATE,
        "completions_per_second": through,
        "longest_silence_seconds": _silence(through),
        "median_seconds": delays[len(delays) // 2],
        "p99_seconds": delays[len(delays) * 99 // 100],
        "slowest_seconds": delays[-1],
        "lease_seconds": LEASE,
        "later_than_lease": sum(delay > LEASE for delay in delays),
        "bound_seconds": LEASE + _AFTER,
    }


def _silence(through: list[int]) -> int:
    longest = now = 0
    for count in through:
        now = 0 if count else now + 1
        longest = max(longest, now)
    return longest


def plot(through: list[int]) -> str:
    """Return a line for every few seconds."""
    step = max(1, len(through) // 40)
    means = [
        sum(through[at : at + step]) / len(through[at : at + step])
        for at in range(0, len(through), step)
    ]
    most = max(means)
    return "\n".join(
        f"{at * step:4} s {mean:5.1f}/s {'#' * round(mean / most * _WIDE)}"
        for at, mean in enumerate(means)
    )
