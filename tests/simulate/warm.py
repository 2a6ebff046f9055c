"""What is known of latencies before a run begins: in most runs something, so that it is used."""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.jobs.latency import BOUNDS
from tests.simulate.clock import START
from tests.simulate.plan import Plan

MODELS = ("kling-v3", "kling-v2-6")
POLL: dict[str, Any] = {
    "first_after": 30,
    "interval": 10,
    "max_interval": 40,
    "output_grace": 60,
    "lost_after": 120,
}
#: The account that does not use what is learned, and the one with a greatest delay.
FIXED, PROMPT, DELAY = "keyed", "flare", 20
_INSERT = sa.text(
    "INSERT INTO latency (account, model, capability, counts, pushed, lost, asked, fixed, at)"
    " VALUES (:account, :model, 'text2video', :counts, :pushed, :lost, 0, 0, :at)"
)


def poll_of(plan: Plan, account: str) -> dict[str, Any]:
    """Return the settings of an account's status queries."""
    if account == FIXED:
        return POLL | {"policy": "fixed"}
    # A plan that covers hours costs more than a run.
    return POLL | ({"max_missed_delay": DELAY} if account == PROMPT and not plan.slow else {})


def insert_known(tx: Tx, plan: Plan) -> None:
    """Insert latencies of each account and model, as of many jobs before."""
    rng = random.Random(f"known {plan.seed}")
    for account in plan.accounts if plan.warm else ():
        for model in MODELS:
            counts = [0] * len(BOUNDS)
            for _ in range(rng.randint(10, 90)):
                counts[bisect_left(BOUNDS, _latency(rng, plan.slow))] += 1
            values = {"counts": json.dumps(counts), "at": int(START.timestamp() * 1000)}
            pushes = {"pushed": float(rng.choice((0, 50, 2000))), "lost": float(rng.randint(0, 3))}
            tx.execute(_INSERT, {"account": account, "model": model} | values | pushes)


def _latency(rng: random.Random, slow: bool) -> float:
    """Draw a latency as a gateway has it: one in ten of a slow one takes very long."""
    if slow and rng.random() < 0.1:
        return rng.uniform(600, 3000)
    return rng.uniform(0.5, 20) + rng.uniform(0.5, 30)
