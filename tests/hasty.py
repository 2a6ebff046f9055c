"""`python -m tests.hasty serve`: the program with claims of seconds instead of minutes, for tests that kill it.

A claim still lasts twice its work's deadline and a margin; only the unit is smaller.
"""

from __future__ import annotations

from orchestrator import deliver, poll, runtime, submit
from orchestrator.cli import main


def hurry() -> None:
    """Shorten what a crash is recovered from by time alone."""
    submit.DEADLINE, submit.LEASE = 1.5, 4.0
    poll.DEADLINE, poll.LEASE = 1.5, 4.0
    deliver.DEADLINE, deliver.LEASE = 1.5, 4.0
    runtime.PATIENCE = 0.5


if __name__ == "__main__":
    hurry()
    main()
