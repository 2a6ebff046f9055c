"""`python -m tests.hostile`: hostile input at volume. The exit code is 1 if a check fails."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.hostile.run import run, show


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tests.hostile", description="Hostile input, at volume.")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.inputs < 1000:
        parser.error("--inputs: 1,000 at least: memory is compared between quarters")
    result = asyncio.run(run(options.inputs, options.seed))
    show(result)
    print(f"seed {options.seed}: {'held' if result.held else 'NOT HELD'}")
    sys.exit(0 if result.held else 1)


if __name__ == "__main__":
    main()
