"""`python -m tests.attack`: all attacks as a table. The exit code is 1 if one is not held."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.attack.run import ATTACKS, table


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tests.attack", description="A real service, attacked.")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="only attacks whose name contains this"
    )
    parser.add_argument("--list", action="store_true", help="show the names of the attacks")
    options = parser.parse_args()
    names = [attack.name for attack in ATTACKS if options.only.lower() in attack.name.lower()]
    if options.list:
        print("\n".join(names))
    elif not names:
        parser.error(f"no attack has {options.only!r} in its name; --list shows them")
    else:
        sys.exit(0 if asyncio.run(table(options.only)) else 1)


if __name__ == "__main__":
    main()
