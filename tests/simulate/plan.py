"""What a seed means: how big the run is, and which faults it has. Swarm testing: each fault is off in half the runs.

Alex Groce et al., "Swarm Testing" (ISSTA 2012): runs with few kinds of fault find what runs with all of them hide.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

#: Fault by fault, the span its probability is drawn from. What it is a probability of stands behind it.
FAULTS: Mapping[str, tuple[float, float]] = {
    # of any exchange
    "refused_connection": (0.02, 0.3),
    "lost_request": (0.01, 0.15),
    "lost_answer": (0.05, 0.4),
    "slow_answer": (0.02, 0.2),
    # of an exchange with a vendor
    "crowded": (0.02, 0.3),
    "vendor_5xx": (0.02, 0.2),
    "unknown_word": (0.02, 0.3),
    # of a render
    "failed_render": (0.05, 0.5),
    "no_url": (0.05, 0.5),
    "contradiction": (0.05, 0.5),
    "slow_render": (0.05, 0.5),
    "late_to_show": (0.3, 1.0),
    # of a push
    "dropped_push": (0.1, 1.0),
    "repeated_push": (0.05, 0.5),
    "late_push": (0.05, 0.5),
    "forged_push": (0.05, 0.5),
    "unreadable_push": (0.05, 0.3),
    # of a commit
    "crash_before_commit": (0.002, 0.03),
    "crash_after_commit": (0.002, 0.03),
    "failed_commit": (0.005, 0.1),
    "uncertain_commit": (0.005, 0.1),
    "late_commit": (0.05, 0.5),
    "freeze_after_commit": (0.02, 0.2),
    # of one step of a process
    "crash": (0.0001, 0.003),
    "freeze": (0.0001, 0.001),
    # of a delivery
    "subscriber_5xx": (0.05, 0.6),
    "subscriber_hangs": (0.02, 0.3),
    "subscriber_rests": (0.02, 0.2),
    "subscriber_gone": (0.005, 0.05),
    "trickle": (0.02, 0.2),
    # of a caller's job
    "cancel": (0.05, 0.3),
    "refresh": (0.05, 0.5),
    "retry": (0.05, 0.5),
    "operator": (0.05, 0.5),
}


#: One for each way of finding out about a lost submission, and each shape of answer.
ACCOUNTS = ("kling", "new", "flare", "dream", "keyed")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    replicas: int
    jobs: int
    subscribers: int
    #: Who gets work: with few of them, each gets much.
    accounts: tuple[str, ...]
    #: Every account's `max_in_flight`.
    slots: int
    #: Faults strike until then, in seconds.
    calm_at: float
    #: Jobs arrive until then: all at once, or spread.
    busy_until: float
    #: Seconds that a clock may be wrong.
    skew: float
    #: True for the writer of SQLite, False for writers that run in any order.
    single: bool
    #: True if Kling refuses an external id it knows. Its pages say so; gateways in front of it do not.
    strict: bool
    #: True if gateways push every state, not just the last.
    talkative: bool
    #: A subscriber that never answers.
    dead_end: bool
    faults: Mapping[str, float]


def plan_of(seed: int) -> Plan:
    """Return what a seed means."""
    rng = random.Random(f"plan {seed}")
    share = rng.choice((0.0, 0.2, 0.5, 0.5, 0.8))
    faults = {name: rng.uniform(*span) for name, span in FAULTS.items() if rng.random() < share}
    replicas = rng.choice((1, 1, 2, 3))
    return Plan(
        seed=seed,
        replicas=replicas,
        jobs=rng.randint(2, 12),
        subscribers=rng.randint(1, 3),
        accounts=tuple(sorted(rng.sample(ACCOUNTS, rng.randint(1, len(ACCOUNTS))))),
        slots=rng.randint(1, 4),
        calm_at=(calm_at := rng.choice((120.0, 400.0, 900.0))),
        busy_until=calm_at * rng.choice((0.05, 0.3, 0.7)),
        skew=rng.choice((0.0, 0.0, 1.0)),
        single=replicas == 1 and rng.random() < 0.7,
        strict=rng.random() < 0.3,
        talkative=rng.random() < 0.5,
        dead_end=rng.random() < 0.06,
        faults=faults,
    )
