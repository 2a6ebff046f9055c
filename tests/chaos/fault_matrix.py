"""Runs each fault on each database, both in parallel, and prints a table of the results."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import (
    clocks,
    crashes,
    kills,
    network,
    partitions,
    pauses,
    postgres_outages,
    write_failures,
)
from tests.chaos.postgres_server import Server, running
from tests.chaos.run import KINDS, Fault, Run, execute

FAULTS: tuple[Fault, ...] = (
    *kills.FAULTS, *crashes.FAULTS, *pauses.FAULTS, *postgres_outages.FAULTS,
    *write_failures.FAULTS, *clocks.FAULTS, *network.FAULTS, *partitions.FAULTS,
)  # fmt: skip
_HEAD = ("fault", "database", "runs", "hits", "lost", "duplicated", "stuck", "wrong", "seconds")
_WIDTHS = (43, 11, 5, 5, 5, 11, 6, 6, 8)


@dataclass(frozen=True)
class Selection:
    """The runs to execute: faults by name, databases, and runs of each."""

    name: str = ""
    databases: Sequence[str] = KINDS
    runs: int = 1
    seed: int = 1

    def of(self, database: str) -> Iterator[tuple[Fault, list[int]]]:
        """Yield the faults of a database, each with its seeds."""
        for fault in FAULTS:
            if (
                self.name.lower() in fault.name.lower()
                and database in fault.on
                and database in self.databases
            ):
                first = self.seed * 1000 + zlib.crc32(fault.name.encode()) % 1000
                yield fault, [first + number for number in range(self.runs)]


async def fault_matrix(selection: Selection) -> bool:
    """Run and print the table. Return True if no check fails."""
    print(_line(_HEAD), flush=True)
    async with contextlib.AsyncExitStack() as stack:
        server = (
            await stack.enter_async_context(running()) if any(selection.of("postgresql")) else None
        )
        async with asyncio.TaskGroup() as both:
            lanes = [both.create_task(_run_database(selection, "sqlite", None))]
            if server is not None:
                lanes.append(both.create_task(_run_database(selection, "postgresql", server)))
    ran = [run for lane in lanes for run in lane.result()]
    wrong = sum(len(run.wrong) for run in ran)
    print(f"{len(ran)} runs, {sum(run.hits for run in ran)} strikes, {wrong} findings")
    return bool(ran) and not wrong


async def _run_database(selection: Selection, database: str, server: Server | None) -> list[Run]:
    """Run all faults of one database, one after the other."""
    ran: list[Run] = []
    for fault, seeds in selection.of(database):
        runs = [await _run_once(fault, seed, server) for seed in seeds]
        sums = [
            sum(run.count(kind) for run in runs)
            for kind in ("lost", "duplicated", "stuck", "wrong")
        ]
        seconds = f"{sum(run.seconds for run in runs):.0f}"
        print(
            _line((fault.name, database, len(runs), sum(run.hits for run in runs), *sums, seconds)),
            flush=True,
        )
        ran += runs
    return ran


async def _run_once(fault: Fault, seed: int, server: Server | None) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    run = await execute(fault, folder, seed, server)
    for finding in run.wrong[:20]:
        print(
            f"  ! {fault.name}, {run.database}, seed {seed}: {finding.kind}: {finding.words}",
            file=sys.stderr,
            flush=True,
        )
    for error, count in run.errors.most_common(5):
        print(
            f"  ? {fault.name}, {run.database}: logged {count} times: {error}",
            file=sys.stderr,
            flush=True,
        )
    if run.wrong or run.errors:
        print(f"  the logs are in {folder}", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(folder)
    return run


def _line(cells: Sequence[object]) -> str:
    first, *others = (str(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return " ".join((first, *others)).rstrip()
