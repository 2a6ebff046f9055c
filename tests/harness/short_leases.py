"""`python -m tests.harness.short_leases serve`: the program with leases of seconds, for tests that kill it.

A claim still lasts twice its work's deadline and a margin; only the unit is smaller. Retries come as much sooner.
"""

from __future__ import annotations

from orchestrator.cli import main
from orchestrator.engine import deliver, deliver_results, poll, submit, submit_outcome, worker

#: Seconds a claim lasts.
LEASE = 4.0
#: Seconds before each attempt, of deliveries and of submissions that did not leave.
SCHEDULE = (0.0, 0.3, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)


def hurry() -> None:
    """Shorten what a crash is recovered from by time alone."""
    submit.DEADLINE, submit.LEASE = 1.5, LEASE
    poll.DEADLINE, poll.LEASE = 1.5, LEASE
    deliver.DEADLINE, deliver.LEASE = 1.5, LEASE
    worker.RETRY_FOR = 0.5
    # These names are the stages' own copies.
    vars(deliver_results).update(STANDARD_SCHEDULE=SCHEDULE, SHORT_SCHEDULE=SCHEDULE)
    vars(submit_outcome).update(SUBMIT_SCHEDULE=SCHEDULE)


if __name__ == "__main__":
    hurry()
    main()
