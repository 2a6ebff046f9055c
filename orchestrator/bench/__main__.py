"""python -m orchestrator.bench NAME"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from typing import Any

from orchestrator import logs
from orchestrator.bench import deliver, ingest, isolation, latency, missed

BENCHES: dict[str, Callable[[int], dict[str, Any]]] = {
    "ingest": lambda rounds: ingest.run(6000, 64, rounds),
    "deliver": lambda rounds: deliver.run(6000, rounds),
    "isolation": lambda rounds: isolation.run(300, 60, rounds),
    "latency": lambda rounds: latency.run(300 * rounds, 50),
    "missed": lambda rounds: missed.run(100 * rounds),
}


def main() -> None:
    """Run one bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.bench", description=__doc__)
    parser.add_argument("bench", choices=sorted(BENCHES))
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    given = parser.parse_args()
    # Standard output is the figures' alone.
    logs.configure("json", logging.ERROR)
    print(json.dumps(json.loads(json.dumps(BENCHES[given.bench](given.rounds)), parse_float=_short), indent=2))


def _short(number: str) -> float:
    return round(float(number), 3)


if __name__ == "__main__":
    main()
