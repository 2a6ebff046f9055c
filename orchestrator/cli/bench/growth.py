"""The same figures as a database grows: jobs, subscribers, accounts, waiting retries, each beside the smallest."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.cli.bench import deliver, history, ingest, seeding, truth
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, quantile, total
from orchestrator.cli.bench.lifecycle import RENDER
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import accounts_of, service, subscribe
from orchestrator.cli.bench.sink import arrivals, judged
from orchestrator.cli.bench.walk import Walk, hook, listening

#: What grows: through which sizes, and how far unless the plan says otherwise.
STEPS: dict[str, tuple[int, ...]] = {
    "jobs": (1_000, 100_000, 1_000_000),
    "subscribers": (1, 100, 10_000),
    "accounts": (1, 1_000),
    "waiting": (0, 100_000),
}
MOST = {"jobs": 100_000, "subscribers": 10_000, "accounts": 1_000, "waiting": 100_000}


@dataclass(frozen=True, slots=True)
class Grown:
    """One service on one database: pushes, deliveries and whole jobs a second, and the slowest of them."""

    values: dict[str, float]
    operations: int
    honest: Honest


def bench(plan: Plan) -> Result:
    """Measure the smallest, then each thing grown alone, in turns."""
    small, steps = _sizes(plan)
    plans = {"smallest": small} | {
        f"{size}_{name}": _grown(small, name, size, plan.history)
        for name, sizes in steps.items()
        for size in sizes
    }
    found: dict[str, list[Grown]] = {name: [] for name in plans}
    for number in range(plan.rounds):
        for name, one in plans.items():
            plan.tell(f"growth: round {number + 1} of {plan.rounds}, {name.replace('_', ' ')}")
            found[name].append(_measure(one))
    figures = [
        figure
        for name, grown in found.items()
        for figure in _figures(name, grown, found["smallest"])
    ]
    every = [one for grown in found.values() for one in grown]
    more = {"smallest": {name: getattr(small, name) for name in STEPS}}
    return Result(
        "growth",
        sum(one.operations for one in every),
        figures,
        total([one.honest for one in every]),
        more,
    )


def _sizes(plan: Plan) -> tuple[Plan, dict[str, list[int]]]:
    """Return the smallest plan, and the larger sizes of each thing that grows."""
    most = {name: MOST[name] if (given := getattr(plan, name)) is None else given for name in STEPS}
    sizes = {name: plan.sizes(steps, most[name]) for name, steps in STEPS.items()}
    first: dict[str, Any] = {name: first for name, (first, *_) in sizes.items()}
    small = replace(plan, history=0, **first)
    return small, {name: larger for name, (_, *larger) in sizes.items()}


def _grown(small: Plan, name: str, size: int, history: int) -> Plan:
    """Return the smallest plan with one thing grown; history grows with the jobs."""
    changed: dict[str, Any] = {name: size} | ({"history": history} if name == "jobs" else {})
    return replace(small, **changed)


def _figures(name: str, grown: Sequence[Grown], smallest: Sequence[Grown]) -> list[Figure]:
    def rounds(what: str, of: Sequence[Grown]) -> list[float]:
        return [one.values[what] for one in of]

    return [
        Figure(
            f"{what}_at_{name}",
            rounds(what, grown),
            [] if grown is smallest else [Limit("the smallest", rounds(what, smallest))],
        )
        for what in grown[0].values
    ]


def _measure(plan: Plan) -> Grown:
    """Push, deliver and walk whole jobs through one service."""
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place(plan))
        vendor = stack.enter_context(child("orchestrator.cli.bench.gateway", str(RENDER)))
        sink = stack.enter_context(child("orchestrator.cli.bench.sink"))
        sock, accounts = stack.enter_context(listening()), plan.accounts or 1
        with here.writing() as engine:
            history.lay(engine, plan)
            order = ingest.prepare(engine, plan)
            count = deliver.owe(engine, plan, sink.port)
        requests = ingest.pushes(order, accounts)
        with service(here, accounts_of(accounts, base_url=f"http://127.0.0.1:{vendor.port}")) as it:
            load, used = ingest.send(it, requests, plan)
            deliver.release(here, it, sink.port, count)
            came = run(arrivals(sink.port))
            seeding.end(here)
            # Only now: it was to hear nothing of the pushes.
            subscribe(it, hook(sock))
            walked = run(Walk(sock, accounts).run(it.port, plan.seconds))
        honest = truth.told(here, [order[number][1] for number in load.acknowledged])
        arrived = len(came) + len(walked.arrivals)
        honest += judged(came, count) + judged(walked.arrivals, len(walked.accepted))
        honest += Honest(lost=max(0, truth.unproven(here, arrived)))
        values = {
            "pushes_per_s": load.rate,
            "push_p99_ms": 1000 * quantile(load.latencies, 0.99),
            "statements_per_push": used.statements / len(load.acknowledged),
            "deliveries_per_s": deliver.rate(came),
            "jobs_per_s": walked.rate,
            "job_p99_ms": 1000 * quantile(walked.delivered, 0.99),
        }
        return Grown(values, len(load.acknowledged) + count + len(walked.delivered), honest)
