"""Planted faults that the simulator must find, one at a time (mutation testing).

Each is a context manager that changes the product while it is open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.api import job_submission
from orchestrator.database import job_turns, queue
from orchestrator.database.membership import Membership
from orchestrator.database.postgres import session
from orchestrator.database.tables import job
from orchestrator.engine import claims, deliver_results, receive, submit_outcome
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.poll import Poller
from orchestrator.engine.receive import Receiver
from orchestrator.engine.recovery import Recovery
from orchestrator.engine.worker import Claimed
from orchestrator.events import outbox
from orchestrator.events.filters import Filter
from orchestrator.jobs import capacity, intake, latency_store, query_economy, transition
from orchestrator.jobs.latency_store import LatencyKey
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import Ledger
from orchestrator.jobs.query_economy import Expectation, PushLoss
from orchestrator.vendors.report import Report
from tests.simulate import faulty_code, faulty_learning

Plant = Callable[[], contextlib.AbstractContextManager[None]]


def _patch(owner: Any, name: str, value: Any) -> Plant:
    return lambda: faulty_code.patched(owner, name, value)


#: Patch by fault.
PLANTED_FAULTS: Mapping[str, Plant] = {
    "bookkeeping ignores the lease": _patch(
        Ledger, "requeue", faulty_code.requeue_without_lease_check
    ),
    "a claim does not move due_at": _patch(queue, "after", lambda now, _: now),
    "the lease is shorter than the deadline": faulty_code.short_lease,
    "a claim that has run out still submits": _patch(claims, "after", faulty_code.in_year_9999),
    "a request leaves late after a freeze": faulty_code.send_always,
    "a fenced process still sends": _patch(Membership, "holds", lambda *_: True),
    "claims are handed over without a grace": _patch(session, "GRACE", 0.0),
    "a start takes nothing back": _patch(Recovery, "start", faulty_code.start_without_recovery),
    "nobody takes claims back": _patch(Recovery, "run", faulty_code.start_without_recovery),
    "a lookup right after a crash counts": _patch(queue, "_TAKE_BACK_JOBS", queue._take_back(job)),
    "the account's limit is not looked at": _patch(
        capacity, "free_slots", faulty_code.ignore_account_limit
    ),
    "a held account is submitted to": _patch(capacity, "free_slots", faulty_code.ignore_holds),
    "a start is ignored": _patch(intake, "create_jobs", faulty_code.start_at_once),
    "turns are forgotten": _patch(capacity, "save_served", lambda *_: None),
    "the oldest job goes first, whatever its key": _patch(
        job_turns, "ask_accounts", faulty_code.oldest_first
    ),
    "the intent is not committed before the request": _patch(
        Ledger, "begin", faulty_code.claim_without_write
    ),
    "a lost answer is sent again at once": _patch(
        submit_outcome, "_in_doubt", faulty_code.requeue_at_once
    ),
    "one not-found is enough to send again": _patch(submit_outcome, "MAX_LOOKUPS", 1),
    "a rank may fall": _patch(transition, "may_move", faulty_code.rank_may_fall),
    "a final state may change": faulty_code.final_state_may_change,
    "expired is for ever": faulty_code.expired_is_final,
    "a success without output is believed": _patch(
        Report, "has_output", property(faulty_code.always_has_output)
    ),
    "answers are matched by position": _patch(Poller, "_answered", faulty_code.match_by_position),
    "the event is written in another transaction": faulty_code.publish_in_next_transaction,
    "paused subscribers are owed nothing": _patch(outbox, "_recipients", faulty_code.only_active),
    "a filter is ignored": _patch(Filter, "matches", lambda *_: True),
    "an ordered subscriber gets what is due": _patch(
        queue, "first_in_order", faulty_code.in_any_order
    ),
    "delivered is written before it is sent": _patch(
        Deliverer, "work", faulty_code.record_before_sending
    ),
    "a failed delivery is never due again": _patch(deliver_results, "after", faulty_code.never_due),
    "each attempt has a webhook-id of its own": faulty_code.new_webhook_id_per_attempt,
    "a kept push is not applied again": _patch(Receiver, "_accept", faulty_code.skip_known_push),
    "a push is acknowledged before it is durable": faulty_code.acknowledge_early,
    "a required signature may be missing": _patch(
        receive, "_verify", faulty_code.skip_verification
    ),
    "a callback token is good for every account": faulty_code.token_for_any_account,
    "the idempotency key is ignored": _patch(job_submission, "idempotency_key", lambda _: None),
    "a silent vendor is never asked": _patch(Poller, "_claim", lambda *_: Claimed()),
    "a lost confirmation counts ends twice": _patch(
        latency_store, "_is_committed", lambda *_: False
    ),
    "an end is announced with each report": _patch(
        Notifier, "announce", faulty_learning.announce_with_each_report
    ),
    "models share what is learned": _patch(
        LatencyKey, "of", faulty_learning.one_key_for_all_models
    ),
    "an expired job is learned from": _patch(Learning, "ended", faulty_learning.learn_from_any_end),
    "a verdict of ours is learned from": _patch(
        Learning, "ended", faulty_learning.learn_from_verdicts_of_ours
    ),
    "the last writer overwrites what was learned": _patch(
        Learning, "run", faulty_learning.read_then_write
    ),
    "what could not be stored is forgotten": _patch(
        Learning, "run", faulty_learning.forget_what_was_not_stored
    ),
    "what is learned may postpone a query for ever": _patch(
        Expectation, "next_query", faulty_learning.next_query_without_bound
    ),
    "what is learned may repeat a query at once": _patch(query_economy, "_LEAST", 0.0),
    "one end without a push degrades an account": _patch(
        PushLoss, "misses_in_a_row", property(lambda _: 1)
    ),
}


def main() -> None:
    """Print the first seed, of 300, that finds each planted fault."""
    from tests.simulate.run import simulate

    for name, plant in PLANTED_FAULTS.items():
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
