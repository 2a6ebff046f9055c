"""`python -m tests.harness.short_leases serve`: the program with short leases, for kill tests.

Answers have 1.5 seconds to arrive. Retries are as much sooner.
"""

from __future__ import annotations

import json
import os

from orchestrator.cli import main
from orchestrator.engine import deliver_scheduler, poll, submit, submit_outcome, worker
from orchestrator.foundation import retry_policy
from orchestrator.foundation.retry_policy import RetryPolicy
from orchestrator.foundation.settings.delivery import Delivery

#: Seconds a claim lasts.
LEASE = 4.0
#: Seconds before each attempt of a delivery, and of a submission that was not sent.
SCHEDULE = (0.0, 0.3, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)


def shorten() -> None:
    """Shorten the times after which a crash is recovered from."""
    accounts = json.loads(os.environ.get("ORCHESTRATOR_ACCOUNTS", "{}"))
    short = {name: {"answer_timeout": 1.5} | account for name, account in accounts.items()}
    os.environ["ORCHESTRATOR_ACCOUNTS"] = json.dumps(short)
    submit.LEASE_MARGIN = poll.LEASE_MARGIN = deliver_scheduler.LEASE_MARGIN = LEASE - 1.5
    # Shorter than the settings allow.
    Delivery.policy = RetryPolicy(SCHEDULE, 1.5, frozenset())  # type: ignore[assignment]
    retry_policy.SHORT_ATTEMPTS = len(SCHEDULE)
    worker.RETRY_FOR = 0.5
    # The module imported this name: it has a copy.
    vars(submit_outcome).update(SUBMIT_SCHEDULE=SCHEDULE)


if __name__ == "__main__":
    shorten()
    main()
