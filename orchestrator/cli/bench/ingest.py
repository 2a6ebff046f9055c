"""Durable acknowledgements of pushes that end jobs per second.

Limits: a handler that only parses them, and bare commits of the same rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import sqlalchemy as sa
import uvloop

from orchestrator.cli.bench import measurement, seed, verification
from orchestrator.cli.bench.load_generator import drive
from orchestrator.cli.bench.measurement import Plan, Result, Sample
from orchestrator.cli.bench.raw_http import request
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.service import SECRET, Child, accounts_of, reference_server, service
from orchestrator.cli.bench.stub_vendor import success_push
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.signing.secret_keys import Callback, Keys

#: Concurrent connections: of a busy service, and of an overloaded one.
CONNECTIONS, MANY = 64, 256
HANDLER = "bare Starlette handler"
PORTABLE = "the same on uvicorn's defaults"
COMMITS = "bare commits of the same rows"
#: Numbers of jobs, and their ids.
Jobs = Sequence[tuple[int, str]]


def bench(plan: Plan) -> Result:
    """Measure the service and its limits."""
    commits: list[Sample] = []
    measures = {
        "service": partial(measure, plan, CONNECTIONS, commits),
        HANDLER: partial(_handler, plan, CONNECTIONS),
        PORTABLE: partial(_handler, plan, CONNECTIONS, "--plain"),
        "service, many": partial(measure, plan, MANY),
        "handler, many": partial(_handler, plan, MANY),
    }
    rounds = measurement.interleave(plan, "ingest", measures)
    ours, many, handler = rounds["service"], rounds["service, many"], {HANDLER: rounds[HANDLER]}
    limits = {**handler, PORTABLE: rounds[PORTABLE], COMMITS: commits}
    limits_many = {HANDLER: rounds["handler, many"]}
    figures = [
        measurement.rate("pushes_per_s", ours, limits),
        *measurement.latencies(ours, handler),
        *measurement.costs("push", ours, handler),
        measurement.rate(f"pushes_per_s_{MANY}_connections", many, limits_many),
    ]
    refused = sum(len(sample.latencies) - sample.operations for sample in ours + many)
    more = {"connections": CONNECTIONS, "not_acknowledged": refused}
    return Result("ingest", ours + many, figures, more)


def measure(plan: Plan, connections: int, commits: list[Sample] | None = None) -> Sample:
    """Push one success for each of many jobs, and check what was acknowledged.

    A paused subscriber wants every event: its delivery is written, and nothing is sent.
    """
    with scratch_database(plan) as database:
        with database.writing() as engine:
            seed.background(engine, plan)
            jobs = prepare(engine, plan)
        with service(database, accounts_of(plan.accounts or 1)) as process:
            sample, acknowledged = push_all(process, jobs, plan, connections)
        if commits is not None:
            group = round(sample.operations / max(1, sample.usage.commits))
            commits.append(verification.bare_commits(plan, database, len(jobs), group))
        return replace(sample, integrity=verification.check_jobs(database, acknowledged))


def _handler(plan: Plan, connections: int, *options: str) -> Sample:
    """Send the same pushes to the reference server."""
    jobs = [(number, f"job_{number}") for number in range(_most(plan))]
    with reference_server("0", "0", *options) as process:
        return push_all(process, jobs, plan, connections)[0]


def _most(plan: Plan) -> int:
    """Return more pushes than this machine can take in the plan's seconds."""
    return max(MANY, int(plan.seconds * 8000))


def prepare(
    engine: sa.Engine, plan: Plan, to: str = seed.NOWHERE, *, max_in_flight: int = 32
) -> Jobs:
    """Insert more jobs than there is time to push, and a subscriber to their events.

    One that is nowhere is paused.
    """
    seed.subscribe(engine, to, paused=to == seed.NOWHERE, max_in_flight=max_in_flight)
    return shuffled(seed.submitted_jobs(engine, _most(plan), plan.accounts or 1))


def push_all(
    process: Child, jobs: Jobs, plan: Plan, connections: int = CONNECTIONS
) -> tuple[Sample, dict[str, float]]:
    """Push for the plan's seconds; return the sample and when jobs were acknowledged."""
    requests, before = pushes(jobs, plan.accounts or 1), process.usage()
    sample, times = uvloop.run(drive(process.port, requests, connections, plan.seconds))
    sample = replace(sample, usage=process.usage() - before)
    return sample, {jobs[index][1]: at for index, at in times.items()}


def shuffled(ids: Sequence[str]) -> Jobs:
    """Return jobs in random order, as vendors finish them."""
    order = list(enumerate(ids))
    random.Random(1).shuffle(order)
    return order


def pushes(jobs: Jobs, accounts: int) -> list[bytes]:
    """Return the request that ends each job, in Kling's legacy standard."""
    keys, expires, made = Keys([SECRET]), seed.CLOCK.now() + timedelta(days=1), []
    for number, job in jobs:
        account = f"bench-{number % accounts}"
        path = f"/callbacks/{account}/{keys.mint(account, Callback(job, 1), expires)}"
        made.append(request("POST", path, encode(success_push(str(9 * 10**17 + number), job))))
    return made
