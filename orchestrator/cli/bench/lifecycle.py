"""Whole jobs a second, submit -> push -> delivered, all of it durable, beside the same messages with nothing stored."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from orchestrator.cli.bench import history, seeding, truth
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, latencies, total
from orchestrator.cli.bench.gateway import count
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import burden, child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import Usage, accounts_of, costs, service
from orchestrator.cli.bench.sink import judged
from orchestrator.cli.bench.walk import CALLERS, IN_FLIGHT, Walk, Walked, hook, listening

#: Seconds a render takes.
RENDER = 0.05


@dataclass(frozen=True, slots=True)
class Ours:
    """One run of the service."""

    walked: Walked
    used: Usage
    honest: Honest


def bench(plan: Plan) -> Result:
    """Measure the service and its limit in turns."""
    ours, bare, cpu = list[Ours](), list[Walked](), list[float]()
    for number in range(plan.rounds):
        plan.tell(f"lifecycle: round {number + 1} of {plan.rounds}")
        ours.append(measure(plan))
        walked, spent = limit(plan)
        bare.append(walked)
        cpu.append(spent)
    name = "bare Starlette and aiohttp"
    used = [(one.used, len(one.walked.delivered)) for one in ours]
    figures = [
        Figure(
            "jobs_per_s",
            [one.walked.rate for one in ours],
            [Limit(name, [one.rate for one in bare])],
        ),
        *latencies([one.walked.delivered for one in ours], {name: [one.delivered for one in bare]}),
        *costs("job", used, {name: cpu}),
    ]
    more = {"in_flight": IN_FLIGHT, "callers": CALLERS, "render_s": RENDER}
    jobs = sum(len(one.walked.delivered) for one in ours)
    return Result("lifecycle", jobs, figures, total([one.honest for one in ours]), more)


def measure(plan: Plan) -> Ours:
    """Submit jobs for as long as the plan says, and follow each to its subscriber.

    A job that the vendor was asked for twice counts as duplicated, like one that was told twice.
    """
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place(plan))
        vendor = stack.enter_context(child("orchestrator.cli.bench.gateway", str(RENDER)))
        sock = stack.enter_context(listening())
        accounts = plan.accounts or 1
        with here.writing() as engine:
            history.lay(engine, plan)
            seeding.subscribe(engine, hook(sock))
        with service(here, accounts_of(accounts, base_url=f"http://127.0.0.1:{vendor.port}")) as it:
            before = it.usage()
            walked = run(Walk(sock, accounts).run(it.port, plan.seconds))
            used = it.usage() - before
            asked = run(count(vendor.port))["submissions"]
        jobs = len(walked.accepted)
        with here.reading() as tx:
            told = Honest(0, truth.completions(tx) + max(0, asked - jobs), truth.gaps(tx))
        return Ours(walked, used, judged(walked.arrivals, jobs) + told)


def limit(plan: Plan) -> tuple[Walked, float]:
    """Send the same messages through the bare walk; return what came of them, and its CPU seconds for each job."""
    with contextlib.ExitStack() as stack:
        vendor = stack.enter_context(child("orchestrator.cli.bench.gateway", str(RENDER)))
        sock = stack.enter_context(listening())
        ports = (str(vendor.port), str(sock.getsockname()[1]))
        bare = stack.enter_context(child("orchestrator.cli.bench.bare", "walk", *ports))
        bare.ready(bare.port)
        before = burden(bare.pid).cpu
        walked = run(Walk(sock).run(bare.port, plan.seconds))
        return walked, (burden(bare.pid).cpu - before) / max(1, len(walked.delivered))
