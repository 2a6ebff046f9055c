"""Derives from a seed the size of a run and its faults. Each fault is absent from half of the runs.

Swarm testing: Alex Groce et al., "Swarm Testing" (ISSTA 2012). Runs with few kinds of fault find
bugs that runs with all kinds hide.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

#: The range that the probability of each fault is drawn from.
FAULTS: Mapping[str, tuple[float, float]] = {
    # per exchange
    "refused_connection": (0.02, 0.3),
    "lost_request": (0.01, 0.15),
    "lost_answer": (0.05, 0.4),
    "slow_answer": (0.02, 0.2),
    # per exchange with a vendor
    "rate_limited": (0.02, 0.3),
    "vendor_5xx": (0.02, 0.2),
    "unknown_state": (0.02, 0.3),
    # per render
    "failed_render": (0.05, 0.5),
    "no_url": (0.05, 0.5),
    "contradiction": (0.05, 0.5),
    "slow_render": (0.05, 0.5),
    "late_visibility": (0.3, 1.0),
    # per push
    "dropped_push": (0.1, 1.0),
    "repeated_push": (0.05, 0.5),
    "late_push": (0.05, 0.5),
    "forged_push": (0.05, 0.5),
    "unreadable_push": (0.05, 0.3),
    # per commit
    "crash_before_commit": (0.002, 0.03),
    "crash_after_commit": (0.002, 0.03),
    "failed_commit": (0.005, 0.1),
    "uncertain_commit": (0.005, 0.1),
    "late_commit": (0.05, 0.5),
    "freeze_after_commit": (0.02, 0.2),
    # per step of a process
    "crash": (0.0001, 0.003),
    "freeze": (0.0001, 0.001),
    # per delivery attempt
    "subscriber_5xx": (0.05, 0.6),
    "subscriber_hangs": (0.02, 0.3),
    "subscriber_retry_after": (0.02, 0.2),
    "subscriber_gone": (0.005, 0.05),
    "trickle": (0.02, 0.2),
    # per job of a caller
    "cancel": (0.05, 0.3),
    "refresh": (0.05, 0.5),
    "retry": (0.05, 0.5),
    "operator": (0.05, 0.5),
}


#: One account for each kind of lookup after a lost answer, and for each response format.
ACCOUNTS = ("kling", "new", "flare", "dream", "keyed")


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of one run."""

    seed: int
    replicas: int
    jobs: int
    subscribers: int
    #: The accounts that receive jobs. The fewer, the more jobs each receives.
    accounts: tuple[str, ...]
    #: `max_in_flight` of every account.
    slots: int
    #: Virtual seconds after which faults stop.
    calm_at: float
    #: Virtual seconds within which jobs are submitted.
    submit_until: float
    #: Largest clock skew, in seconds.
    skew: float
    #: True for the writer of SQLite, False for writers that commit in any order.
    sqlite: bool
    #: True if Kling refuses a known external id, as documented. Gateways in front of Kling do not.
    strict: bool
    #: True if gateways push every state, not only the final one.
    push_every_state: bool
    #: True if one subscriber never answers.
    silent_subscriber: bool
    faults: Mapping[str, float]
    #: Probability that an answer or push has an odd shape. In half of the runs none has.
    odd_shapes: float
    #: Probability that a vendor forgets a render for a while. In half of the runs none does.
    forgetful: float
    #: Probability that a job has a priority, a fairness key and a start. In half of the runs none
    #: has.
    scheduled: float
    #: Probability that a commit is followed by the loss of a session. In half of the runs none is.
    lost_sessions: float
    #: Probability that a process dies when a submission has left. In half of the runs none does.
    deadly_submissions: float
    #: The account that its vendor refuses for a while, from when until when, and whether for its
    #: balance. In most runs none: a held queue hides other faults.
    refused: tuple[str, float, float, bool] | None
    #: True if latencies are known at the start, and true if some of them are very long.
    warm: bool
    slow: bool


def plan_of(seed: int) -> Plan:
    """Return the plan of a seed."""
    rng = random.Random(f"plan {seed}")
    share = rng.choice((0.0, 0.2, 0.5, 0.5, 0.8))
    faults = {name: rng.uniform(*span) for name, span in FAULTS.items() if rng.random() < share}
    replicas = rng.choice((1, 1, 2, 3))
    refusals = random.Random(f"refused {seed}")
    return Plan(
        seed=seed,
        replicas=replicas,
        jobs=rng.randint(2, 12),
        subscribers=rng.randint(1, 3),
        accounts=(accounts := tuple(sorted(rng.sample(ACCOUNTS, rng.randint(1, len(ACCOUNTS)))))),
        slots=rng.randint(1, 4),
        calm_at=(calm_at := rng.choice((120.0, 400.0, 900.0))),
        submit_until=calm_at * rng.choice((0.05, 0.3, 0.7)),
        skew=rng.choice((0.0, 0.0, 1.0)),
        sqlite=replicas == 1 and rng.random() < 0.7,
        strict=rng.random() < 0.3,
        push_every_state=rng.random() < 0.5,
        silent_subscriber=rng.random() < 0.06,
        faults=faults,
        # Drawn apart: they leave the other draws of a seed as they are.
        odd_shapes=max(0.0, random.Random(f"shapes {seed}").uniform(-1, 1)),
        scheduled=random.Random(f"scheduled {seed}").choice((0.0, 0.0, 0.5, 1.0)),
        forgetful=max(0.0, random.Random(f"forgetful {seed}").uniform(-1, 1)),
        deadly_submissions=max(0.0, random.Random(f"deadly {seed}").uniform(-0.4, 0.4)),
        lost_sessions=max(0.0, random.Random(f"sessions {seed}").uniform(-0.2, 0.2)),
        refused=_refused(refusals, accounts, calm_at) if refusals.random() < 0.15 else None,
        warm=(known := random.Random(f"warm {seed}")).random() < 0.75,
        slow=known.random() < 0.5,
    )


def _refused(
    rng: random.Random, accounts: tuple[str, ...], calm_at: float
) -> tuple[str, float, float, bool]:
    begin = rng.uniform(0, 0.1 * calm_at)
    return rng.choice(accounts), begin, begin + rng.uniform(10, 200), rng.random() < 0.5
