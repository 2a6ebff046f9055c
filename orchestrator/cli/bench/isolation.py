"""What other subscribers feel of one that never answers and one that sends a byte a second: side by side, in turns."""

from __future__ import annotations

import contextlib

from orchestrator.cli.bench import history, seeding
from orchestrator.cli.bench.figures import Honest, Result, latencies, total
from orchestrator.cli.bench.ingest import shuffled
from orchestrator.cli.bench.latency import delays
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import accounts_of, service, subscribe
from orchestrator.cli.bench.sink import arrived, judged

#: Pushes a second.
PER_S = 60
SLOW = ("silent", "trickle")


def bench(plan: Plan) -> Result:
    """Deliver at an even pace with the two slow ones beside, and without them."""
    beside, alone, honest, held = list[list[float]](), list[list[float]](), list[Honest](), 0
    for number in range(plan.rounds):
        plan.tell(f"isolation: round {number + 1} of {plan.rounds}")
        for slow, waits in (((), alone), (SLOW, beside)):
            found, kept, stuck = _round(plan, slow)
            waits.append(found)
            honest.append(kept)
            held += stuck
    figures = latencies(beside, {"without the slow ones": alone})
    more = {"pushes_per_s": PER_S, "requests_the_slow_ones_held": held}
    return Result("isolation", sum(map(len, beside)), figures, total(honest), more)


def _round(plan: Plan, slow: tuple[str, ...]) -> tuple[list[float], Honest, int]:
    """Return how long each delivery took from the push, what is missing, and how many requests the slow ones held."""
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place(plan))
        sink = stack.enter_context(child("orchestrator.cli.bench.sink"))
        with here.writing() as engine:
            history.lay(engine, plan)
            seeding.subscribe(engine, f"http://127.0.0.1:{sink.port}/hook")
            jobs = shuffled(seeding.submitted(engine, max(10, int(plan.seconds * PER_S))))
        it = stack.enter_context(service(here, accounts_of(1)))
        # After the service, so that they end before it: it would wait for their answers.
        stuck = [
            stack.enter_context(child("orchestrator.cli.bench.stuck", how)).port for how in slow
        ]
        for port in stuck:
            subscribe(it, f"http://127.0.0.1:{port}/hook")
        waits, came = delays(it.port, sink.port, jobs, PER_S)
        return waits, judged(came, len(jobs)), sum(run(arrived(port)) for port in stuck)
