"""`python -m tests.failover`: the table. The exit code is 1 if something was lost or doubled."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.failover import daemons, patroni
from tests.failover.kills import Kind
from tests.failover.routes import ROUTES
from tests.failover.run import Result, run
from tests.harness.debian import Missing

_HEAD = (
    "route", "replication", "kills", "orders", "pushes", "503", "lost", "doubled", "other",
    "seconds",
)  # fmt: skip
_WIDTHS = (14, 13, 6, 7, 7, 6, 5, 8, 6, 7)


@dataclass(frozen=True)
class Plan:
    """One run."""

    route: str
    synchronous: bool
    kills: Sequence[Kind]

    @property
    def name(self) -> str:
        """Its name for `--only`."""
        return f"{self.route}, {self.replication}"

    @property
    def replication(self) -> str:
        """How its standbys replicate."""
        return "synchronous" if self.synchronous else "asynchronous"


def plans(kills: int) -> Iterator[Plan]:
    """Yield the runs. The first kill of each takes a whole machine, then each second one."""
    alternately: tuple[Kind, Kind] = ("machine", "server")
    kinds = [alternately[number % 2] for number in range(kills)]
    for route in ROUTES:
        yield Plan(route, True, kinds)
    yield Plan("several hosts", False, kinds)


async def table(chosen: Sequence[Plan], seed: int) -> bool:
    """Run and print the table.

    Return True if synchronous replication lost and doubled nothing, and asynchronous replication
    lost something: the kills and the audit can show a loss.
    """
    held, numbers = True, itertools.count()
    print(_line(_HEAD), flush=True)
    for synchronous in (True, False):
        of_one = [plan for plan in chosen if plan.synchronous is synchronous]
        if not of_one:
            continue
        with patroni.running(synchronous=synchronous) as (cluster, place):
            for plan in of_one:
                held &= await _run(plan, cluster, place, f"jobs_{next(numbers)}", seed)
    return held


async def _run(plan: Plan, cluster: patroni.Cluster, place: Path, database: str, seed: int) -> bool:
    result = await run(cluster, place, plan.route, database, plan.kills, seed)
    print(_line(_cells(plan, result)), *_lines(result), sep="\n", flush=True)
    if plan.synchronous:
        for finding in result.wrong[:20]:
            print(f"  ! {finding.kind}: {finding.words}", file=sys.stderr, flush=True)
    return not result.wrong if plan.synchronous else result.count("lost") > 0


def _cells(plan: Plan, result: Result) -> Sequence[object]:
    return (
        plan.route, plan.replication, len(result.kills), result.orders, result.pushes,
        result.refused, result.count("lost"), result.count("duplicated"),
        result.count("stuck", "wrong"), f"{result.seconds:.0f}",
    )  # fmt: skip


def _lines(result: Result) -> Iterator[str]:
    """Yield a line for each kill, and what was acknowledged and lost."""
    for kill in result.kills:
        yield (
            f"  {kill.kind} killed: 503 from {kill.refused:.1f} s, a new primary after "
            f"{kill.promoted:.1f} s, orders accepted from {kill.acknowledged:.1f} s, all servers "
            f"back after {kill.complete:.1f} s"
        )
    if orders := result.gone("acknowledged and gone"):
        yield f"  acknowledged and lost: {orders} of {result.orders} orders"
    if pushes := result.gone("a push was acknowledged"):
        yield f"  acknowledged and lost: {pushes} of {result.pushes} pushes"


def _line(cells: Sequence[object]) -> str:
    padded = [str(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)]
    return " ".join(padded).rstrip()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="tests.failover",
        description="PostgreSQL under Patroni, its primary killed under load.",
        epilog="example: python -m tests.failover --kills 2 --only 'HAProxy'",
    )
    parser.add_argument("--kills", type=int, default=5, help="kills of each run")
    parser.add_argument("--only", default="", metavar="NAME", help="runs with this in their name")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    every = [*plans(options.kills)]
    chosen = [plan for plan in every if options.only.lower() in plan.name.lower()]
    if not chosen:
        parser.error(f"no run has {options.only!r} in its name: {[plan.name for plan in every]}")
    # Whatever ends this process, it ends those that it started. A shell may have both ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        daemons.install()
        daemons.located("patroni")
    except Missing as missing:
        sys.exit(f"error: {missing}")
    sys.exit(0 if asyncio.run(table(chosen, options.seed)) else 1)


if __name__ == "__main__":
    main()
