"""Durable acknowledgements of pushes that end jobs, beside a handler that only parses them, and beside bare commits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from orchestrator.cli.bench import history, rows, seeding, truth
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, latencies, total
from orchestrator.cli.bench.gateway import success
from orchestrator.cli.bench.load import Load, drive
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import burden, child
from orchestrator.cli.bench.raw import request, run
from orchestrator.cli.bench.service import (
    SECRET,
    Service,
    Usage,
    account_names,
    accounts_of,
    costs,
    service,
)
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.signing.secret_keys import Callback, Keys

#: Connections at once: of a busy service, and of one that is pushed as hard as it can be.
CONNECTIONS, MANY = 64, 256
#: More than this machine could take: the pushes of a run must not run out.
_MOST_PER_S = 8000
_TOKENS_LAST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ours:
    """One run of the service."""

    load: Load
    used: Usage
    honest: Honest
    commits: float

    @property
    def count(self) -> int:
        """Pushes that were acknowledged."""
        return len(self.load.acknowledged)


def bench(plan: Plan) -> Result:
    """Measure the service and both limits in turns."""
    ours, bare, plain, cpu = list[Ours](), list[Load](), list[Load](), list[float]()
    most, bare_most = list[Ours](), list[Load]()
    for number in range(plan.rounds):
        plan.tell(f"ingest: round {number + 1} of {plan.rounds}")
        ours.append(measure(plan, rows_beside=True))
        load, spent = handler(plan)
        bare.append(load)
        cpu.append(spent)
        plain.append(handler(plan, "--plain")[0])
        most.append(measure(plan, connections=MANY))
        bare_most.append(handler(plan, connections=MANY)[0])
    used = [(one.used, one.count) for one in ours]
    rates = [
        Limit("bare Starlette handler", [one.rate for one in bare]),
        Limit("the same on uvicorn's defaults", [one.rate for one in plain]),
        Limit("bare commits of the same rows", [one.commits for one in ours]),
    ]
    figures = [
        Figure("pushes_per_s", [one.load.rate for one in ours], rates),
        *latencies(
            [one.load.latencies for one in ours], {rates[0].name: [one.latencies for one in bare]}
        ),
        *costs("push", used, {rates[0].name: cpu}),
        Figure(
            f"pushes_per_s_{MANY}_connections",
            [one.load.rate for one in most],
            [Limit(rates[0].name, [one.rate for one in bare_most])],
        ),
    ]
    every = ours + most
    refused = sum(len(one.load.latencies) - one.count for one in every)
    more = {"connections": CONNECTIONS, "not_acknowledged": refused}
    return Result(
        "ingest",
        sum(one.count for one in every),
        figures,
        total([one.honest for one in every]),
        more,
    )


def measure(plan: Plan, *, connections: int = CONNECTIONS, rows_beside: bool = False) -> Ours:
    """Push one success for each of many jobs, for as long as the plan says, and check what was acknowledged.

    A paused subscriber is owed every event: the row is written, and nothing sent.
    """
    with place(plan) as here:
        accounts = plan.accounts or 1
        with here.writing() as engine:
            history.lay(engine, plan)
            order = prepare(engine, plan)
        requests = pushes(order, accounts)
        with service(here, accounts_of(accounts)) as it:
            load, used = send(it, requests, plan, connections)
        honest = truth.told(here, [order[place][1] for place in load.acknowledged])
        group = round(len(load.acknowledged) / max(1, used.commits))
        return Ours(load, used, honest, rows.committed(plan, here, group) if rows_beside else 0.0)


def prepare(engine: sa.Engine, plan: Plan) -> list[tuple[int, str]]:
    """Have jobs that wait for their push, more than there is time for, and somebody who is owed their events."""
    seeding.subscribe(engine, seeding.NOWHERE, paused=True)
    return shuffled(seeding.submitted(engine, _most(plan), plan.accounts or 1))


def send(
    it: Service, requests: Sequence[bytes], plan: Plan, connections: int = CONNECTIONS
) -> tuple[Load, Usage]:
    """Push for as long as the plan says; return what came of it and what it took."""
    before = it.usage()
    load = run(drive(it.port, requests, connections, plan.seconds))
    return load, it.usage() - before


def _most(plan: Plan) -> int:
    return max(MANY, int(plan.seconds * _MOST_PER_S))


def handler(plan: Plan, *how: str, connections: int = CONNECTIONS) -> tuple[Load, float]:
    """Send the same pushes to the bare handler; return what came of them, and its CPU seconds for each."""
    jobs = [(number, f"job_{number}") for number in range(_most(plan))]
    requests = pushes(jobs, 1)
    with child("orchestrator.cli.bench.bare", "push", *how) as bare:
        bare.ready(bare.port)
        before = burden(bare.pid).cpu
        load = run(drive(bare.port, requests, connections, plan.seconds))
        return load, (burden(bare.pid).cpu - before) / max(1, len(load.acknowledged))


def shuffled(ids: Sequence[str]) -> list[tuple[int, str]]:
    """Return jobs and their numbers in the order in which vendors finish them: none."""
    order = list(enumerate(ids))
    random.Random(1).shuffle(order)
    return order


def pushes(jobs: Sequence[tuple[int, str]], accounts: int) -> list[bytes]:
    """Return the request that ends each of numbered jobs, in Kling's legacy standard."""
    keys, names = Keys([SECRET]), account_names(accounts)
    expires = SystemClock().now() + _TOKENS_LAST
    made = []
    for number, job_id in jobs:
        account = names[number % accounts]
        path = f"/callbacks/{account}/{keys.mint(account, Callback(job_id, 1), expires)}"
        made.append(request("POST", path, encode(success(str(9 * 10**17 + number), job_id))))
    return made
