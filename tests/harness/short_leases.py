"""`python -m tests.harness.short_leases serve`: the program with short leases, for kill tests.

Answers have 1.5 seconds to arrive. Retries are as much sooner.
"""

from __future__ import annotations

import json
import os

from orchestrator.cli import main
from orchestrator.engine import deliver, deliver_results, poll, submit, submit_outcome, worker

#: Seconds a claim lasts.
LEASE = 4.0
#: Seconds before each attempt of a delivery, and of a submission that was not sent.
SCHEDULE = (0.0, 0.3, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)


def shorten() -> None:
    """Shorten the times after which a crash is recovered from."""
    accounts = json.loads(os.environ.get("ORCHESTRATOR_ACCOUNTS", "{}"))
    short = {name: {"answer_timeout": 1.5} | account for name, account in accounts.items()}
    os.environ["ORCHESTRATOR_ACCOUNTS"] = json.dumps(short)
    submit.LEASE_MARGIN = poll.LEASE_MARGIN = LEASE - 1.5
    deliver.DEADLINE, deliver.LEASE = 1.5, LEASE
    worker.RETRY_FOR = 0.5
    # The modules imported these names: each has a copy.
    vars(deliver_results).update(STANDARD_SCHEDULE=SCHEDULE, SHORT_SCHEDULE=SCHEDULE)
    vars(submit_outcome).update(SUBMIT_SCHEDULE=SCHEDULE)


if __name__ == "__main__":
    shorten()
    main()
