"""The simulator's command line. Exit code 1 if a run went wrong; it says which, and how to see it again."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulate.run import Result, simulate

#: Violations after which it is enough.
_ENOUGH = 10


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="tests.simulate", description="The whole product in virtual time."
    )
    parser.add_argument("--seed", type=int, help="one run, with its trace")
    parser.add_argument("--seeds", type=int, default=200, help="how many runs")
    parser.add_argument("--first", type=int, default=1, help="the first of their seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    wrong = (
        _one(given.seed)
        if given.seed is not None
        else _many(given.first, given.seeds, given.processes)
    )
    sys.exit(1 if wrong else 0)


def _one(seed: int) -> int:
    result = simulate(seed, shown=10_000)
    print("\n".join(result.trace))
    print(f"seed {seed}: {result.violation or 'all is well'}")
    print(f"trace {result.digest}")
    return int(result.violation is not None)


def _many(first: int, seeds: int, processes: int) -> int:
    started, total = time.monotonic(), Total()
    for result in _results(first, seeds, processes):
        total.add(result)
        if result.violation is not None:
            print(f"seed {result.seed}: {result.violation.splitlines()[-1]}")
            print(f"  again: make simulate SEED={result.seed}", flush=True)
        if len(total.wrong) >= _ENOUGH:
            break
    total.show(time.monotonic() - started)
    return len(total.wrong)


def _results(first: int, seeds: int, processes: int) -> Iterator[Result]:
    span = range(first, first + seeds)
    if processes == 1:
        yield from map(simulate, span)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(simulate, span, chunksize=4)


class Total:
    """What many runs came to."""

    def __init__(self) -> None:
        self.runs = 0
        self.wrong: list[int] = []
        self._counts: Counter[str] = Counter()
        self._jobs: Counter[str] = Counter()
        self._seconds = 0.0
        self._steps = 0

    def add(self, result: Result) -> None:
        """Count one more."""
        self.runs += 1
        self._counts += result.counts
        self._jobs += result.jobs
        self._seconds += result.seconds
        self._steps += result.steps
        if result.violation is not None:
            self.wrong.append(result.seed)

    def show(self, seconds: float) -> None:
        """Print the figures."""
        commits, deaths = self._counts.pop("commits", 0), self._counts.pop("deaths", 0)
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))
        print(
            f"{self.runs} runs in {seconds:.0f} s, {self.runs / seconds:.1f} a second; {len(self.wrong)} went wrong"
        )
        print(
            f"{self._seconds / 3600:.0f} virtual hours, {self._steps} steps, {commits} commits, {deaths} deaths"
        )
        print(
            f"jobs: {', '.join(f'{state} {count}' for state, count in sorted(self._jobs.items()))}"
        )
        print(f"faults: {faults}")


if __name__ == "__main__":
    main()
