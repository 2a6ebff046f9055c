"""`python -m tests.chaos.program serve`: the product, made to strike itself or to read a wrong clock.

CHAOS_LEASES  `hasty` for claims of seconds (`tests.harness.short_leases`), anything else for the product's own
CHAOS_POINT   JSON: the name of a failpoint, the passage from 1, the signal's number
CHAOS_CLOCK   JSON: seconds that the clock is wrong by, and after how many seconds it becomes so
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
    """Let the machine's clock be wrong from some moment on. What only grows is right: no kernel sets that back."""
    right = SystemClock.now
    begun = SystemClock().monotonic()

    def now(clock: SystemClock) -> datetime:
        wrong = clock.monotonic() - begun >= delay
        return after(right(clock), seconds if wrong else 0.0)

    setattr(SystemClock, right.__name__, now)


def prepared() -> None:
    """Do as the environment says, and on SIGUSR1 say what every thread is at."""
    faulthandler.register(signal.SIGUSR1)
    if os.environ.get("CHAOS_LEASES") == "hasty":
        shorten()
    if point := os.environ.get("CHAOS_POINT"):
        name, passage, number = json.loads(point)
        failpoints.arm(name, passage, signal.Signals(number))
    if clock := os.environ.get("CHAOS_CLOCK"):
        skew(*json.loads(clock))


if __name__ == "__main__":
    prepared()
    main()
