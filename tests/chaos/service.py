"""`python -m tests.chaos.service serve`: the product with failpoints or a wrong clock.

CHAOS_LEASES  `short` for leases of seconds (`tests.harness.short_leases`), else the product's own
CHAOS_POINT   JSON: the name of a failpoint, the passage from 1, the signal's number
CHAOS_CLOCK   JSON: the skew of the clock in seconds, and the seconds until it begins
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
from datetime import datetime

from orchestrator.cli import main
from orchestrator.foundation.clock import SystemClock, after
from tests.chaos import failpoints
from tests.harness.short_leases import shorten


def skew(seconds: float, delay: float) -> None:
    """Shift the wall clock by `seconds`, `delay` seconds after the start.

    The monotonic clock stays right.
    """
    right = SystemClock.now
    begun = SystemClock().monotonic()

    def now(clock: SystemClock) -> datetime:
        wrong = clock.monotonic() - begun >= delay
        return after(right(clock), seconds if wrong else 0.0)

    setattr(SystemClock, right.__name__, now)


def configure() -> None:
    """Apply the environment variables. SIGUSR1 prints the stack of every thread."""
    faulthandler.register(signal.SIGUSR1)
    if os.environ.get("CHAOS_LEASES") == "short":
        shorten()
    if point := os.environ.get("CHAOS_POINT"):
        name, passage, number = json.loads(point)
        failpoints.arm(name, passage, signal.Signals(number))
    if clock := os.environ.get("CHAOS_CLOCK"):
        skew(*json.loads(clock))


if __name__ == "__main__":
    configure()
    main()
