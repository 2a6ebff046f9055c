"""When every push is lost: everything still completes, later. How much later, beside the same jobs with pushes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench import seeding
from orchestrator.cli.bench.deliver import until
from orchestrator.cli.bench.figures import Figure, Honest, Json, Limit, Result, quantile, total
from orchestrator.cli.bench.load import drive
from orchestrator.cli.bench.place import Place, place
from orchestrator.cli.bench.plan import Plan, Spoiled
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.raw import get, request, run
from orchestrator.cli.bench.service import AUTHORIZATION, service
from orchestrator.cli.bench.sink import arrivals, judged
from orchestrator.database.tables import job
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.json_codec import encode
from orchestrator.simulator.accounts import account_settings
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS

ACCOUNTS = ("kling", "cloudsway", "agentsflare", "dreamto")
#: Seconds a render takes, at most; a shorter plan has shorter ones.
RENDER = 2.0
#: In proportion to a render what the defaults are to a render of two minutes.
POLL = {"first_after": 0.5, "interval": 0.25, "max_interval": 1.0}
_CALLERS = 16
_PER_S = 20


@dataclass(frozen=True, slots=True)
class Told:
    """Seconds from the end of a render to the moment its job is final with us, and who said so."""

    delays: list[float]
    by: Counter[str]
    honest: Honest


def bench(plan: Plan) -> Result:
    """Run the same jobs without pushes and with them, in turns, against the simulator of every dialect."""
    pushed, missed = list[Told](), list[Told]()
    for number in range(plan.rounds):
        plan.tell(f"missed: round {number + 1} of {plan.rounds}")
        pushed.append(_round(plan, {}))
        missed.append(_round(plan, {"drop_push": 1.0}))
    shares = {"median": 0.5, "p99": 0.99, "worst": 1.0}
    figures = [
        Figure(
            f"{name}_s",
            _quantiles(missed, share),
            [Limit("with pushes", _quantiles(pushed, share))],
        )
        for name, share in shares.items()
    ]
    by = {
        name: dict(sum((one.by for one in told), Counter()))
        for name, told in (("with", pushed), ("without", missed))
    }
    jobs = sum(len(one.delays) for one in missed)
    more = {"resolved_by": by, "render_s": _render(plan)}
    return Result("missed", jobs, figures, total([one.honest for one in pushed + missed]), more)


def _render(plan: Plan) -> float:
    return min(RENDER, plan.seconds)


def _quantiles(told: list[Told], share: float) -> list[float]:
    return [quantile(one.delays, share) for one in told]


def _round(plan: Plan, faults: Json) -> Told:
    """Submit to every account in turn, and compare when renders ended with when we knew."""
    count = max(len(ACCOUNTS), int(plan.seconds * _PER_S))
    words = ("--port", "0", "--render-seconds", str(_render(plan)), "--faults", json.dumps(faults))
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place(plan))
        world = json.loads(stack.enter_context(child("orchestrator.simulator", *words)).line)["url"]
        sink = stack.enter_context(child("orchestrator.cli.bench.sink"))
        with here.writing() as engine:
            seeding.subscribe(engine, f"http://127.0.0.1:{sink.port}/hook")
        poll = {name: share * _render(plan) for name, share in POLL.items()}
        more = {"max_in_flight": 1000, "poll": poll}
        accounts = {name: account_settings(world, name) | more for name in ACCOUNTS}
        with service(here, accounts) as it:
            load = run(drive(it.port, _orders(count), _CALLERS))
            if len(load.acknowledged) < count:
                raise Spoiled(f"submissions were answered {dict(load.statuses)}")
            run(until(sink.port, count))
        came = run(arrivals(sink.port))
        report = json.loads(run(get(int(world.rpartition(":")[2]), "/_control/report")))
        return _told(here, report["renders"], judged(came, count))


def _orders(count: int) -> list[bytes]:
    bodies = {name: body for name, _, body in reversed(SAMPLE_JOBS)}
    names = [ACCOUNTS[number % len(ACCOUNTS)] for number in range(count)]
    return [request("POST", "/v1/jobs", encode(bodies[name]), AUTHORIZATION) for name in names]


def _told(here: Place, renders: list[dict[str, Any]], honest: Honest) -> Told:
    over = {render["external_task_id"]: render["states"][-1][1] for render in renders}
    with here.reading() as tx:
        rows = tx.execute(
            sa.select(job.c.external_task_id, job.c.finished_at, job.c.resolved_by)
        ).all()
    delays = [epoch_ms(at) / 1000 - over[external] for external, at, _ in rows]
    return Told(delays, Counter(str(by) for *_, by in rows), honest)
