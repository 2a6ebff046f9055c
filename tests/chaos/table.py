"""All faults on both databases, a run of each at a time per database, as a table of what was lost."""

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

from tests.chaos import clocks, disk, kills, network, outages, partitions, pauses, points
from tests.chaos.nursery import nursery
from tests.chaos.run import KINDS, Fault, Run, execute
from tests.chaos.server import running
from tests.chaos.stage import Means

FAULTS: tuple[Fault, ...] = (
    *kills.FAULTS, *points.FAULTS, *pauses.FAULTS, *outages.FAULTS, *disk.FAULTS, *clocks.FAULTS, *network.FAULTS,
    *partitions.FAULTS,
)  # fmt: skip
_HEAD = ("fault", "database", "runs", "hits", "lost", "duplicated", "stuck", "wrong", "seconds")
_WIDTHS = (43, 11, 5, 5, 5, 11, 6, 6, 8)


@dataclass(frozen=True)
class Wanted:
    """What is to be run: faults whose name has these words, on these databases, so many times."""

    words: str = ""
    databases: Sequence[str] = KINDS
    runs: int = 1
    seed: int = 1

    def of(self, database: str) -> Iterator[tuple[Fault, list[int]]]:
        """Yield the faults for a database, each with the seeds of its runs."""
        for fault in FAULTS:
            if (
                self.words.lower() in fault.name.lower()
                and database in fault.on
                and database in self.databases
            ):
                first = self.seed * 1000 + zlib.crc32(fault.name.encode()) % 1000
                yield fault, [first + number for number in range(self.runs)]


async def table(wanted: Wanted) -> bool:
    """Run and print; return whether there was nothing to complain of."""
    print(_line(_HEAD), flush=True)
    async with contextlib.AsyncExitStack() as stack:
        born = await stack.enter_async_context(nursery())
        server = (
            await stack.enter_async_context(running()) if any(wanted.of("postgresql")) else None
        )
        async with asyncio.TaskGroup() as both:
            lanes = [both.create_task(_lane(wanted, "sqlite", Means(None, born.spawn)))]
            if server is not None:
                lanes.append(
                    both.create_task(_lane(wanted, "postgresql", Means(server, born.spawn)))
                )
    ran = [run for lane in lanes for run in lane.result()]
    wrong = sum(len(run.wrong) for run in ran)
    print(f"{len(ran)} runs, {sum(run.hits for run in ran)} strikes, {wrong} complaints")
    return bool(ran) and not wrong


async def _lane(wanted: Wanted, database: str, means: Means) -> list[Run]:
    """Run everything for one database, one after the other."""
    ran: list[Run] = []
    for fault, seeds in wanted.of(database):
        runs = [await _once(fault, seed, means) for seed in seeds]
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


async def _once(fault: Fault, seed: int, means: Means) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    run = await execute(fault, folder, seed, means)
    for one in run.wrong[:20]:
        print(
            f"  ! {fault.name}, {run.database}, seed {seed}: {one.kind}: {one.words}",
            file=sys.stderr,
            flush=True,
        )
    for words, count in run.errors.most_common(5):
        print(
            f"  ? {fault.name}, {run.database}: logged {count} times: {words}",
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
