"""`python -m tests.chaos`: the table, or `steady`. Exit code 1 on any complaint."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.chaos import steady
from tests.chaos.run import KINDS
from tests.chaos.table import FAULTS, Wanted, table


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description="Real processes, real faults.")
    parser.add_argument("what", nargs="?", choices=("table", "steady", "list"), default="table")
    parser.add_argument(
        "--fault", default="", metavar="WORDS", help="only faults whose name has these words"
    )
    parser.add_argument("--database", choices=KINDS, action="append", help="only this one")
    parser.add_argument("--runs", type=int, default=1, help="of each fault on each database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="of steady load")
    given = parser.parse_args()
    if given.what == "list":
        print("\n".join(fault.name for fault in FAULTS))
        return
    if given.what == "steady":
        well = asyncio.run(steady.run(given.seconds, given.seed))
    elif not any(given.fault.lower() in fault.name.lower() for fault in FAULTS):
        parser.error(
            f"no fault has {given.fault!r} in its name; `python -m tests.chaos list` shows them"
        )
    else:
        wanted = Wanted(given.fault, given.database or KINDS, given.runs, given.seed)
        well = asyncio.run(table(wanted))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
