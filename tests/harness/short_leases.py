"""`python -m tests.harness.short_leases serve`: the program with short leases, for kill tests.

A lease is still twice the deadline of its work and a margin. Retries are as much sooner.
"""

from __future__ import annotations

from orchestrator.cli import main
from orchestrator.engine import deliver, deliver_results, poll, submit, submit_outcome, worker

#: Seconds a claim lasts.
LEASE = 4.0
#: Seconds before each attempt of a delivery, and of a submission that was not sent.
SCHEDULE = (0.0, 0.3, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)


def shorten() -> None:
    """Shorten the times after which a crash is recovered from."""
    submit.DEADLINE, submit.LEASE = 1.5, LEASE
    poll.DEADLINE, poll.LEASE = 1.5, LEASE
    deliver.DEADLINE, deliver.LEASE = 1.5, LEASE
    worker.RETRY_FOR = 0.5
    # The modules imported these names: each has a copy.
    vars(deliver_results).update(STANDARD_SCHEDULE=SCHEDULE, SHORT_SCHEDULE=SCHEDULE)
    vars(submit_outcome).update(SUBMIT_SCHEDULE=SCHEDULE)


if __name__ == "__main__":
    shorten()
    main()
