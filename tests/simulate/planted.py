"""Bugs, planted one at a time, that the simulator must find: a check that nothing trips over checks nothing.

Each changes the product a little, the way a hurried change would, for as long as its context lasts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.api import job_submission
from orchestrator.database import queue
from orchestrator.engine import deliver_results, receive, submit, submit_outcome
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.poll import Poller
from orchestrator.engine.receive import Receiver
from orchestrator.engine.worker import Claimed
from orchestrator.events import outbox
from orchestrator.jobs import capacity, transition
from orchestrator.jobs.ledger import Ledger
from orchestrator.vendors.report import Report
from tests.simulate import mistakes

Plant = Callable[[], contextlib.AbstractContextManager[None]]


def _swap(owner: Any, name: str, value: Any) -> Plant:
    return lambda: mistakes.swapped(owner, name, value)


#: What is wrong, and how to make it so.
PLANTED: Mapping[str, Plant] = {
    "bookkeeping ignores the lease": _swap(Ledger, "requeue", mistakes.unfenced),
    "a claim does not move due_at": _swap(queue, "after", lambda now, _: now),
    "the lease is shorter than the deadline": mistakes.short_lease,
    "a claim that has run out still submits": _swap(submit, "after", mistakes.never),
    "the account's limit is not looked at": _swap(capacity, "free_slots", mistakes.uncounted),
    "the intent is not committed before the request": _swap(Ledger, "begin", mistakes.unwritten),
    "a lost answer is sent again at once": _swap(
        submit_outcome, "_in_doubt", mistakes.back_at_once
    ),
    "one not-found is enough to send again": _swap(submit_outcome, "MAX_LOOKUPS", 1),
    "a rank may fall": _swap(transition, "may_move", mistakes.may_fall),
    "a final state may change": mistakes.final_may_change,
    "expired is for ever": mistakes.expired_for_ever,
    "a success without output is believed": _swap(
        Report, "has_output", property(mistakes.believed)
    ),
    "answers are matched by position": _swap(Poller, "_answered", mistakes.by_position),
    "the event is written in another transaction": mistakes.event_apart,
    "paused subscribers are owed nothing": _swap(outbox, "_recipients", mistakes.to_the_active),
    "delivered is written before it is sent": _swap(Deliverer, "work", mistakes.delivered_first),
    "a failed delivery is never due again": _swap(deliver_results, "after", mistakes.never_again),
    "each attempt has a webhook-id of its own": mistakes.new_name_each_time,
    "a kept push is not applied again": _swap(Receiver, "_accept", mistakes.skipping),
    "a push is acknowledged before it is durable": mistakes.hasty_ok,
    "a required signature may be missing": _swap(receive, "_verify", mistakes.unverified),
    "a callback token is good for every account": mistakes.token_for_all,
    "the idempotency key is ignored": _swap(job_submission, "idempotency_key", lambda _: None),
    "a silent vendor is never asked": _swap(Poller, "_claim", lambda *_: Claimed()),
}


def main() -> None:
    """Say for each planted fault which seed finds it first, of 300."""
    from tests.simulate.run import simulate

    for name, plant in PLANTED.items():
        for seed in range(1, 301):
            with plant():
                found = simulate(seed).violation
            if found is not None:
                break
        print(
            f"{name:50} {f'seed {seed}: {found.splitlines()[-1]}' if found else 'not found'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
