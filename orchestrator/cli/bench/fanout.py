"""One event for many: what a push costs when many subscribers are owed its event, beside bare commits of its rows."""

from __future__ import annotations

from orchestrator.cli.bench import rows, seeding, truth
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, latencies, total
from orchestrator.cli.bench.ingest import Ours, pushes, shuffled
from orchestrator.cli.bench.load import drive
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import accounts_of, costs, service

#: Subscribers of every event, and the most of them unless the plan says otherwise.
STEPS, MOST = (1, 100), 1_000
_CONNECTIONS = 4
#: Deliveries that a run may come to in each second of it.
_ROWS_PER_S = 100_000
_PUSHES_PER_S = 2_000


def bench(plan: Plan) -> Result:
    """Measure with one subscriber, a hundred, and as many as the plan says, in turns."""
    sizes = plan.sizes(STEPS, plan.subscribers or MOST)
    ours: dict[int, list[Ours]] = {size: [] for size in sizes}
    for number in range(plan.rounds):
        for size, runs in ours.items():
            plan.tell(f"fanout: round {number + 1} of {plan.rounds}, {size:,} subscribers")
            runs.append(_measure(plan, size))
    figures = [figure for size, runs in ours.items() for figure in _figures(size, runs)]
    every = [one for runs in ours.values() for one in runs]
    more = {"subscribers": sizes, "connections": _CONNECTIONS}
    return Result(
        "fanout",
        sum(one.count for one in every),
        figures,
        total([one.honest for one in every]),
        more,
    )


def _figures(size: int, ours: list[Ours]) -> list[Figure]:
    beside = [Limit("bare commits of the same rows", [size * one.commits for one in ours])]
    found = [
        Figure("deliveries_owed_per_s", [size * one.load.rate for one in ours], beside),
        *latencies([one.load.latencies for one in ours], {}),
        *costs("push", [(one.used, one.count) for one in ours], {}),
    ]
    return [Figure(f"{figure.name}_to_{size}", figure.rounds, figure.limits) for figure in found]


def _measure(plan: Plan, size: int) -> Ours:
    """Push to a service with so many paused subscribers, all of whom are owed every event."""
    count = max(_CONNECTIONS, int(plan.seconds * min(_PUSHES_PER_S, _ROWS_PER_S / size)))
    with place(plan) as here:
        with here.writing() as engine:
            seeding.subscribe(engine, seeding.NOWHERE, count=size, paused=True)
            order = shuffled(seeding.submitted(engine, count))
        requests = pushes(order, 1)
        with service(here, accounts_of(1)) as it:
            before = it.usage()
            load = run(drive(it.port, requests, _CONNECTIONS, plan.seconds))
            used = it.usage() - before
        acknowledged = [order[number][1] for number in load.acknowledged]
        missing = size * len(acknowledged) - truth.owed(here)
        honest = truth.told(here, acknowledged) + Honest(max(0, missing), max(0, -missing))
        group = round(len(acknowledged) / max(1, used.commits))
        return Ours(load, used, honest, rows.committed(plan, here, group))
