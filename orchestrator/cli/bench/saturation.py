"""Pushes as fast as the service takes them, each delivered while the next ones arrive.

Limit: a relay that stores nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

import uvloop

from orchestrator.cli.bench import measurement, seed, verification
from orchestrator.cli.bench.deliver import all_arrivals, arrival_rate
from orchestrator.cli.bench.ingest import CONNECTIONS, Jobs, prepare, push_all
from orchestrator.cli.bench.latency import RELAY
from orchestrator.cli.bench.load_generator import delays
from orchestrator.cli.bench.measurement import Figure, Plan, Result, Sample
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.service import Child, accounts_of, child, reference_server, service
from orchestrator.cli.bench.stub_subscriber import check_arrivals

#: Deliveries at once that the subscriber allows: else its own limit would be measured.
IN_FLIGHT = 128


def bench(plan: Plan) -> Result:
    """Measure the service and the relay."""
    measures = {"service": partial(_service, plan), RELAY: partial(_relay, plan)}
    rounds = measurement.interleave(plan, "saturation", measures)
    ours, limits = rounds["service"], {RELAY: rounds[RELAY]}
    delivered = Figure.of("delivered_per_s", lambda s: s.value("delivered_per_s"), ours, limits)
    figures = [measurement.rate("accepted_per_s", ours, limits), delivered]
    figures += measurement.latencies(ours, limits, name="accepted_to_delivered_{}_ms")
    figures += measurement.costs("delivery", ours)
    more = {"connections": CONNECTIONS, "max_in_flight": IN_FLIGHT}
    return Result("saturation", ours, figures, more)


def _service(plan: Plan) -> Sample:
    """Push one success for each of many jobs, to a service with a subscriber."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        subscriber = stack.enter_context(child("stub_subscriber"))
        with database.writing() as engine:
            seed.background(engine, plan)
            url = f"http://127.0.0.1:{subscriber.port}/hook"
            jobs = prepare(engine, plan, url, max_in_flight=IN_FLIGHT)
        with service(database, accounts_of(plan.accounts or 1)) as process:
            sample = _push(process, subscriber.port, jobs, plan)
        integrity = sample.integrity + verification.check_attempts(database, sample.operations)
        return replace(sample, integrity=integrity)


def _relay(plan: Plan) -> Sample:
    jobs = [(number, f"job_{number}") for number in range(int(plan.seconds * 20_000))]
    with (
        child("stub_subscriber") as subscriber,
        reference_server("0", str(subscriber.port)) as process,
    ):
        return _push(process, subscriber.port, jobs, plan)


def _push(process: Child, subscriber: int, jobs: Jobs, plan: Plan) -> Sample:
    """Push for the plan's seconds; the latencies are from each answer to its delivery."""
    before = process.usage()
    sample, acknowledged = push_all(process, jobs, plan)
    arrivals = uvloop.run(all_arrivals(subscriber, len(acknowledged)))
    return replace(
        sample,
        latencies=delays(acknowledged, arrivals),
        usage=process.usage() - before,
        integrity=check_arrivals(arrivals, len(acknowledged)),
        values={"delivered_per_s": arrival_rate(arrivals)},
    )
