"""How long a service takes from its start until `/readyz` says so, with many jobs in the database."""

from __future__ import annotations

import time
from dataclasses import replace

from orchestrator.cli.bench import history
from orchestrator.cli.bench.figures import Figure, Limit, Result
from orchestrator.cli.bench.place import Place, place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.service import accounts_of, configured

JOBS = 100_000


def bench(plan: Plan) -> Result:
    """Start the program itself on both databases, and a bare server, in turns."""
    jobs = plan.jobs or JOBS
    full, empty, bare = list[float](), list[float](), list[float]()
    with place(plan) as here, place(plan) as nothing:
        plan.tell(f"start: laying down {jobs:,} jobs")
        with here.writing() as engine:
            history.lay(engine, replace(plan, jobs=jobs))
        with nothing.writing():
            plan.tell("start: measuring")
        for _ in range(plan.rounds):
            full.append(_started(here, plan))
            empty.append(_started(nothing, plan))
            bare.append(_bare())
    limits = [Limit("an empty database", empty), Limit("bare Starlette handler", bare)]
    return Result("start", plan.rounds, [Figure("ready_s", full, limits)], more={"jobs": jobs})


def _started(here: Place, plan: Plan) -> float:
    words, port = configured(here, accounts_of(plan.accounts or 1))
    began = time.perf_counter()
    with child("orchestrator", *words, announces=False) as process:
        process.ready(port)
        return time.perf_counter() - began


def _bare() -> float:
    began = time.perf_counter()
    with child("orchestrator.cli.bench.bare", "push") as process:
        process.ready(process.port)
        return time.perf_counter() - began
