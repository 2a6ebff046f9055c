"""python -m orchestrator.bench NAME"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from typing import Any

from orchestrator import logs
from orchestrator.bench import claims, deliver, ingest, isolation, latency, missed

BENCHES: dict[str, Callable[[int, str | None], dict[str, Any]]] = {
    "claims": lambda rounds, database: claims.run(database, rounds),
    "ingest": lambda rounds, _: ingest.run(6000, 64, rounds),
    "deliver": lambda rounds, _: deliver.run(6000, rounds),
    "isolation": lambda rounds, _: isolation.run(300, 60, rounds),
    "latency": lambda rounds, _: latency.run(300 * rounds, 50),
    "missed": lambda rounds, _: missed.run(100 * rounds),
}


def main() -> None:
    """Run one bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.bench", description=__doc__)
    parser.add_argument("bench", choices=sorted(BENCHES))
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--database", help="URL of an empty database (claims only; default: a file of SQLite's)")
    given = parser.parse_args()
    # Standard output is the figures' alone.
    logs.configure("json", logging.ERROR)
    print(
        json.dumps(
            json.loads(json.dumps(BENCHES[given.bench](given.rounds, given.database)), parse_float=_short), indent=2
        )
    )


def _short(number: str) -> float:
    return round(float(number), 3)


if __name__ == "__main__":
    main()
