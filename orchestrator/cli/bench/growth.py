"""The same figures as a database grows: jobs, subscribers, accounts, waiting retries.

Limit: the smallest database.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import uvloop

from orchestrator.cli.bench import deliver, ingest, seed, verification
from orchestrator.cli.bench.lifecycle import RENDER_SECONDS
from orchestrator.cli.bench.load_generator import JobLoad, subscribe
from orchestrator.cli.bench.measurement import Figure, Plan, Result, Sample, interleave
from orchestrator.cli.bench.raw_http import listen
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.service import accounts_of, child, service
from orchestrator.cli.bench.stub_subscriber import check_arrivals

#: Sizes of what grows; the last unless the plan says otherwise.
STEPS: Mapping[str, tuple[int, ...]] = {
    "jobs": (1_000, 100_000, 1_000_000),
    "subscribers": (1, 100, 10_000),
    "accounts": (1, 1_000),
    "waiting": (0, 100_000),
}
MOST = {"jobs": 100_000, "subscribers": 10_000, "accounts": 1_000, "waiting": 100_000}


def bench(plan: Plan) -> Result:
    """Measure the smallest database, then each size grown alone."""
    plans = _plans(plan)
    measures = {name: partial(_measure, each, name) for name, each in plans.items()}
    rounds = interleave(plan, "growth", measures)
    smallest = {"the smallest": rounds["smallest"]}
    figures = []
    for name, samples in rounds.items():
        limits = {} if name == "smallest" else smallest
        for of in samples[0].values:
            value = partial(Sample.value, name=of)
            figures.append(Figure.of(f"{of}_at_{name}", value, samples, limits))
    every = [sample for samples in rounds.values() for sample in samples]
    sizes = {name: getattr(plans["smallest"], name) for name in STEPS}
    return Result("growth", every, figures, {"smallest": sizes})


def _plans(plan: Plan) -> dict[str, Plan]:
    """Return the smallest plan, and one for each larger size. History grows with the jobs."""
    sizes: dict[str, list[int]] = {}
    for name, steps in STEPS.items():
        most = MOST[name] if (given := getattr(plan, name)) is None else given
        sizes[name] = [*(step for step in steps if step < most), most]
    first: dict[str, Any] = {name: found[0] for name, found in sizes.items()}
    plans = {"smallest": replace(plan, history=0, **first)}
    for name, (_, *larger) in sizes.items():
        history = plan.history if name == "jobs" else 0
        for size in larger:
            changes: dict[str, Any] = {**first, name: size}
            plans[f"{size}_{name}"] = replace(plan, history=history, **changes)
    return plans


def _measure(plan: Plan, name: str) -> Sample:
    """Start one service; push, deliver, and run whole jobs through it."""
    plan.notify(f"growth: {name.replace('_', ' ')}")
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        vendor = stack.enter_context(child("stub_vendor", str(RENDER_SECONDS)))
        subscriber = stack.enter_context(child("stub_subscriber"))
        load = JobLoad(stack.enter_context(listen()), plan.accounts or 1)
        with database.writing() as engine:
            seed.background(engine, plan)
            jobs = ingest.prepare(engine, plan)
            count = deliver.owe(engine, plan, subscriber.port)
        accounts = accounts_of(plan.accounts or 1, base_url=f"http://127.0.0.1:{vendor.port}")
        with service(database, accounts) as process:
            time.sleep(min(1.0, plan.seconds))
            idle = process.usage()
            push, acknowledged = ingest.push_all(process, jobs, plan)
            arrivals, _ = deliver.release(database, process, subscriber.port, count)
            seed.cancel_submitted(database)
            # Only now: it wants events like those of the pushes.
            subscribe(process.port, load.url)
            finished = uvloop.run(load.run(process.port, plan.seconds))
            busy = process.usage()
        integrity = verification.check_jobs(database, acknowledged)
        integrity += check_arrivals(arrivals, count) + check_arrivals(
            load.arrivals, len(load.accepted)
        )
        integrity += verification.check_attempts(database, len(arrivals) + len(load.arrivals))
        operations = push.operations + count + finished.operations
        values = {
            "ready_s": process.ready_after,
            "idle_rss_mb": idle.rss / (1 << 20),
            **_values(push, finished),
            "deliveries_per_s": deliver.arrival_rate(arrivals),
            "rss_mb": busy.rss / (1 << 20),
        }
        return Sample(operations, integrity=integrity, values=values)


def _values(push: Sample, finished: Sample) -> dict[str, float]:
    return {
        "pushes_per_s": push.rate,
        "push_p99_ms": push.latency_ms(0.99),
        "statements_per_push": push.per_operation(push.usage.statements),
        "jobs_per_s": finished.rate,
        "job_p99_ms": finished.latency_ms(0.99),
    }
