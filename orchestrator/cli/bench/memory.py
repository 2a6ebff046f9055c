"""What the service holds: at rest, after the first jobs, and after many more of them, beside a bare handler."""

from __future__ import annotations

import contextlib
import time

from orchestrator.cli.bench import seeding
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, total
from orchestrator.cli.bench.lifecycle import RENDER
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import burden, child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import accounts_of, service
from orchestrator.cli.bench.sink import judged
from orchestrator.cli.bench.walk import Walk, hook, listening

#: Whole jobs that are handled, and after how many of them memory is looked at first.
JOBS, FIRST = 20_000, 10_000
_FOREVER = 1e9
_MB = 1 << 20


def bench(plan: Plan) -> Result:
    """Measure once: what a process holds hardly differs between runs, and a million jobs take long."""
    jobs = plan.jobs or JOBS
    first = min(FIRST, max(1, jobs // 2))
    plan.tell(f"memory: {jobs:,} jobs, each submitted, pushed and delivered")
    idle, marks, honest = _measure(plan, first, jobs)
    with child("orchestrator.cli.bench.bare", "push") as bare:
        bare.ready(bare.port)
        beside = burden(bare.pid).rss / _MB
    figures = [
        Figure("idle_rss_mb", [idle], [Limit("bare Starlette handler", [beside])]),
        Figure("rss_mb_after_first_jobs", [marks[first]]),
        Figure(
            "rss_mb_after_all_jobs", [marks[jobs]], [Limit("after the first jobs", [marks[first]])]
        ),
    ]
    return Result("memory", jobs, figures, total([honest]), {"first": first, "jobs": jobs})


def _measure(plan: Plan, first: int, jobs: int) -> tuple[float, dict[int, float], Honest]:
    """Return megabytes at rest, and after so many jobs each."""
    held: dict[int, float] = {}
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place(plan))
        vendor = stack.enter_context(child("orchestrator.cli.bench.gateway", str(RENDER)))
        sock = stack.enter_context(listening())
        with here.writing() as engine:
            seeding.bystanders(engine, plan)
            seeding.subscribe(engine, hook(sock))
        accounts = plan.accounts or 1
        it = stack.enter_context(
            service(here, accounts_of(accounts, base_url=f"http://127.0.0.1:{vendor.port}"))
        )
        time.sleep(min(1.0, plan.seconds))
        idle = it.usage().rss / _MB

        def look(count: int) -> None:
            held[count] = it.usage().rss / _MB
            plan.tell(f"memory: {count:,} jobs, {held[count]:.0f} MB")

        marks = {count: lambda count=count: look(count) for count in (first, jobs)}
        walked = run(Walk(sock, accounts, marks).run(it.port, _FOREVER, jobs))
    return idle, held, judged(walked.arrivals, jobs)
