"""`python -m tests.chaos`: the fault matrix, or `steady`. The exit code is 1 if a check fails."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.chaos import throughput
from tests.chaos.fault_matrix import FAULTS, Selection, fault_matrix
from tests.chaos.run import KINDS


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description="Real processes, real faults.")
    parser.add_argument("what", nargs="?", choices=("table", "steady", "list"), default="table")
    parser.add_argument(
        "--fault", default="", metavar="NAME", help="only faults whose name contains this"
    )
    parser.add_argument("--database", choices=KINDS, action="append", help="only this database")
    parser.add_argument("--runs", type=int, default=1, help="runs of each fault on each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="duration of `steady`")
    options = parser.parse_args()
    if options.what == "list":
        print("\n".join(fault.name for fault in FAULTS))
        return
    if options.what == "steady":
        passed = asyncio.run(throughput.run(options.seconds, options.seed))
    elif not any(options.fault.lower() in fault.name.lower() for fault in FAULTS):
        parser.error(
            f"no fault has {options.fault!r} in its name; `python -m tests.chaos list` shows them"
        )
    else:
        selection = Selection(options.fault, options.database or KINDS, options.runs, options.seed)
        passed = asyncio.run(fault_matrix(selection))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
