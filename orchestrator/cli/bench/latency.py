"""Push -> delivered at low load: what a subscriber waits for when its vendor has told us, beside a bare relay."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from orchestrator.cli.bench import history, seeding
from orchestrator.cli.bench.deliver import until
from orchestrator.cli.bench.figures import Honest, Result, latencies, total
from orchestrator.cli.bench.ingest import pushes, shuffled
from orchestrator.cli.bench.load import pace
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import accounts_of, costs, service
from orchestrator.cli.bench.sink import Arrival, arrivals, judged

#: Pushes a second.
PER_S = 50


def bench(plan: Plan) -> Result:
    """Measure the service and the relay in turns."""
    ours, bare, used, honest = list[list[float]](), list[list[float]](), [], list[Honest]()
    for number in range(plan.rounds):
        plan.tell(f"latency: round {number + 1} of {plan.rounds}")
        with place(plan) as here, child("orchestrator.cli.bench.sink") as sink:
            with here.writing() as engine:
                history.lay(engine, plan)
                seeding.subscribe(engine, f"http://127.0.0.1:{sink.port}/hook")
                jobs = shuffled(seeding.submitted(engine, _count(plan)))
            with service(here, accounts_of(1)) as it:
                before = it.usage()
                waits, came = delays(it.port, sink.port, jobs)
                used.append((it.usage() - before, len(jobs)))
        ours.append(waits)
        honest.append(judged(came, len(jobs)))
        bare.append(_relay(plan))
    figures = [*latencies(ours, {"bare relay": bare}), *costs("delivery", used, {})]
    return Result("latency", sum(map(len, ours)), figures, total(honest), {"pushes_per_s": PER_S})


def _count(plan: Plan) -> int:
    return max(10, int(plan.seconds * PER_S))


def _relay(plan: Plan) -> list[float]:
    """Return the delays of something that passes a push on and stores nothing."""
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(child("orchestrator.cli.bench.sink"))
        bare = stack.enter_context(
            child("orchestrator.cli.bench.bare", "walk", "9", str(sink.port))
        )
        bare.ready(bare.port)
        jobs = [(number, f"job_{number}") for number in range(_count(plan))]
        return delays(bare.port, sink.port, jobs)[0]


def delays(
    door: int, subscriber: int, jobs: Sequence[tuple[int, str]], per_s: float = PER_S
) -> tuple[list[float], list[Arrival]]:
    """Push at an even pace; return the seconds until each was delivered, and all arrivals."""
    sent = run(pace(door, pushes(jobs, 1), 1 / per_s))
    run(until(subscriber, len(jobs)))
    came = run(arrivals(subscriber))
    first = {one.job: one.at for one in reversed(came)}
    return [
        first[job] - began for (_, job), began in zip(jobs, sent, strict=True) if job in first
    ], came
