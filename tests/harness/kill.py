"""Repeated kill -9 under load: `python -m tests.harness.kill --orders 600`.

On PostgreSQL it kills one of three replicas. Runs the fault `RANDOM` of `tests.chaos` with figures
in detail.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.chaos.kills import RANDOM
from tests.chaos.postgres_server import running
from tests.chaos.run import KINDS, Run, execute
from tests.chaos.testbed import Size
from tests.harness.audit import QUERYABLE, Json

_LOST = frozenset({"found", "not_found", "not_found_resend", "waiting_for_push"})


async def killed(folder: Path, database: str, seed: int, size: Size) -> bool:
    """Run on a kind of database and print the figures. True if the audit found nothing."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running()) if database == "postgresql" else None
        run = await execute(RANDOM, folder, seed, server, size)
        for what, value in figures(run).items():
            print(f"{what:<42}{value}")
    for finding in run.wrong[:20]:
        print(f"  ! {finding.kind}: {finding.words}")
    return not run.wrong


def figures(run: Run) -> dict[str, object]:
    """Return the figures of a run, by name."""
    assert run.books is not None
    assert run.load is not None
    database, load, pushes = run.books, run.load, run.report["pushes"]
    received = run.report["subscriber"]
    twice = [each for each in run.report["double_renders"] if each["vendor"] in QUERYABLE]
    errors = (
        json.loads(row["error"])["code"]
        for row in database.rows("SELECT error FROM job WHERE error IS NOT NULL")
    )
    details: list[Json] = [
        json.loads(row["detail"]) for row in database.rows("SELECT detail FROM trace")
    ]
    return {
        "kills": run.hits,
        "jobs acknowledged": len(load.owned),
        "  calls repeated by callers": load.repeats,
        "  answered with an earlier call's job": load.replayed,
        "jobs by state": dict(database.count("SELECT state FROM job")),
        "jobs by source of the end": dict(database.count("SELECT resolved_by FROM job")),
        "errors": dict(Counter(errors)),
        "lost submissions": dict(
            Counter(note["outcome"] for note in details if note.get("outcome") in _LOST)
        ),
        "renders accepted by vendors": len(run.report["renders"]),
        "renders made twice despite a lookup": len(twice),
        "pushes by answer": dict(Counter(str(push["status"]) for push in pushes)),
        "pushes stored": len(database.rows("SELECT id FROM push")),
        "completion events": sum(received["completions"].values()),
        "deliveries": len(received["deliveries"]),
        "  repeated under the same webhook-id": sum(received["duplicates"].values()),
        "violations": len(run.report["violations"]),
        "findings of the auditor": len(run.wrong),
        "seconds": round(run.seconds, 1),
    }


def main() -> None:
    """Run from the command line. Exit code 1 if the audit found a violation."""
    parser = argparse.ArgumentParser(prog="tests.harness.kill", description=__doc__)
    parser.add_argument("--orders", type=int, default=600)
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second")
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        size = Size(given.orders, given.rate, limit=20)
        passed = asyncio.run(killed(Path(name), given.database, given.seed, size))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
