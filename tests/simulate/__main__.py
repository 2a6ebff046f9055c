"""Command line of the simulator.

The exit code is 1 if a run failed; the seed to repeat is printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulate.run import Result, simulate

#: Failed runs after which the command stops.
_MAX_VIOLATIONS = 10


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="tests.simulate", description="The whole product in virtual time."
    )
    parser.add_argument("--seed", type=int, help="print one run with its trace")
    parser.add_argument("--seeds", type=int, default=200, help="number of runs")
    parser.add_argument("--first", type=int, default=1, help="seed of the first run")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    violations = (
        _run_one(options.seed)
        if options.seed is not None
        else _run_many(options.first, options.seeds, options.processes)
    )
    sys.exit(1 if violations else 0)


def _run_one(seed: int) -> int:
    result = simulate(seed, shown=10_000)
    print("\n".join(result.trace))
    print(f"seed {seed}: {result.violation or 'no violation'}")
    print(f"trace {result.digest}")
    return int(result.violation is not None)


def _run_many(first: int, seeds: int, processes: int) -> int:
    started, total = time.monotonic(), Total()
    for result in _results(first, seeds, processes):
        total.add(result)
        if result.violation is not None:
            print(f"seed {result.seed}: {result.violation.splitlines()[-1]}")
            print(f"  again: make simulate SEED={result.seed}", flush=True)
        if len(total.violations) >= _MAX_VIOLATIONS:
            break
    total.show(time.monotonic() - started)
    return len(total.violations)


def _results(first: int, seeds: int, processes: int) -> Iterator[Result]:
    span = range(first, first + seeds)
    if processes == 1:
        yield from map(simulate, span)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(simulate, span, chunksize=4)


class Total:
    """Sums over many runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.violations: list[int] = []
        self._counts: Counter[str] = Counter()
        self._jobs: Counter[str] = Counter()
        self._seconds = 0.0
        self._steps = 0

    def add(self, result: Result) -> None:
        """Add one run."""
        self.runs += 1
        self._counts += result.counts
        self._jobs += result.jobs
        self._seconds += result.seconds
        self._steps += result.steps
        if result.violation is not None:
            self.violations.append(result.seed)

    def show(self, seconds: float) -> None:
        """Print the figures."""
        commits, deaths = self._counts.pop("commits", 0), self._counts.pop("deaths", 0)
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))
        print(
            f"{self.runs} runs in {seconds:.0f} s, {self.runs / seconds:.1f} a second; "
            f"{len(self.violations)} with violations"
        )
        print(
            f"{self._seconds / 3600:.0f} virtual hours, {self._steps} steps, {commits} commits, "
            f"{deaths} crashes"
        )
        print(
            f"jobs: {', '.join(f'{state} {count}' for state, count in sorted(self._jobs.items()))}"
        )
        print(f"faults: {faults}")


if __name__ == "__main__":
    main()
