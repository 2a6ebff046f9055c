"""Kill -9, again and again, under load: `python -m tests.kill --orders 600`; on PostgreSQL one of three replicas.

The fault of that name of `tests.chaos`, with everything a reader may want to know of it.
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
from tests.chaos.run import KINDS, Run, execute
from tests.chaos.server import running
from tests.chaos.stage import Means, Size
from tests.harness.audit import ASKABLE, Json

_LOST = frozenset({"found", "not_found", "not_found_resend", "waiting_for_push"})


async def killed(folder: Path, database: str, seed: int, size: Size) -> bool:
    """Run it on a database of a kind and print; return whether there was nothing to complain of."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running()) if database == "postgresql" else None
        run = await execute(RANDOM, folder, seed, Means(server), size)
        for what, value in figures(run).items():
            print(f"{what:<42}{value}")
    for one in run.wrong[:20]:
        print(f"  ! {one.kind}: {one.words}")
    return not run.wrong


def figures(run: Run) -> dict[str, object]:
    """Return what a reader of the run wants to know."""
    assert run.books is not None
    assert run.load is not None
    books, load, pushes, heard = run.books, run.load, run.report["pushes"], run.report["subscriber"]
    twice = [one for one in run.report["double_renders"] if one["vendor"] in ASKABLE]
    errors = (
        json.loads(row["error"])["code"]
        for row in books.rows("SELECT error FROM job WHERE error IS NOT NULL")
    )
    details: list[Json] = [
        json.loads(row["detail"]) for row in books.rows("SELECT detail FROM trace")
    ]
    return {
        "kills": run.hits,
        "jobs acknowledged": len(load.owned),
        "  calls repeated by callers": load.repeats,
        "  answered with an earlier call's job": load.replayed,
        "jobs by state": dict(books.count("SELECT state FROM job")),
        "jobs by who said so": dict(books.count("SELECT resolved_by FROM job")),
        "errors": dict(Counter(errors)),
        "lost submissions": dict(
            Counter(one["outcome"] for one in details if one.get("outcome") in _LOST)
        ),
        "renders accepted by vendors": len(run.report["renders"]),
        "renders made twice by who can be asked": len(twice),
        "pushes by answer": dict(Counter(str(one["status"]) for one in pushes)),
        "pushes kept": len(books.rows("SELECT id FROM push")),
        "completion events": sum(heard["completions"].values()),
        "deliveries": len(heard["deliveries"]),
        "  repeated under the same webhook-id": sum(heard["duplicates"].values()),
        "violations": len(run.report["violations"]),
        "complaints of the auditor": len(run.wrong),
        "seconds": round(run.seconds, 1),
    }


def main() -> None:
    """Run from the command line; exit code 1 if the auditor complains."""
    parser = argparse.ArgumentParser(prog="tests.harness.kill", description=__doc__)
    parser.add_argument("--orders", type=int, default=600)
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second")
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        size = Size(given.orders, given.rate, limit=20)
        well = asyncio.run(killed(Path(name), given.database, given.seed, size))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
