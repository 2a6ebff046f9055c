"""Whole jobs per second, submit -> push -> delivered, all of it durable.

Limit: the same messages with nothing stored.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial

import uvloop

from orchestrator.cli.bench import measurement, seed, verification
from orchestrator.cli.bench.load_generator import CALLERS, IN_FLIGHT, JobLoad
from orchestrator.cli.bench.measurement import Integrity, Plan, Result, Sample
from orchestrator.cli.bench.raw_http import listen, port_of
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.service import accounts_of, child, reference_server, service
from orchestrator.cli.bench.stub_subscriber import check_arrivals
from orchestrator.cli.bench.stub_vendor import fetch_counts

#: Seconds from a submission to its push.
RENDER_SECONDS = 0.05
LIMIT = "bare Starlette and aiohttp"


def bench(plan: Plan) -> Result:
    """Measure the service and its limit."""
    measures = {"service": partial(_service, plan), LIMIT: partial(_reference, plan)}
    rounds = measurement.interleave(plan, "lifecycle", measures)
    ours, limits = rounds["service"], {LIMIT: rounds[LIMIT]}
    figures = [
        measurement.rate("jobs_per_s", ours, limits),
        *measurement.latencies(ours, limits),
        *measurement.costs("job", ours, limits),
    ]
    more = {"in_flight": IN_FLIGHT, "callers": CALLERS, "render_s": RENDER_SECONDS}
    return Result("lifecycle", ours, figures, more)


def _service(plan: Plan) -> Sample:
    """Submit jobs and follow each to its subscriber. A job submitted twice is duplicated too."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        vendor = stack.enter_context(child("stub_vendor", str(RENDER_SECONDS)))
        load = JobLoad(stack.enter_context(listen()), plan.accounts or 1)
        with database.writing() as engine:
            seed.background(engine, plan)
            seed.subscribe(engine, load.url)
        accounts = accounts_of(plan.accounts or 1, base_url=f"http://127.0.0.1:{vendor.port}")
        with service(database, accounts) as process:
            before = process.usage()
            sample = uvloop.run(load.run(process.port, plan.seconds))
            used = process.usage() - before
            submissions = uvloop.run(fetch_counts(vendor.port))["submissions"]
        integrity = check_arrivals(load.arrivals, len(load.accepted))
        integrity += Integrity(duplicated=max(0, submissions - len(load.accepted)))
        integrity += verification.check_jobs(database)
        return replace(sample, usage=used, integrity=integrity)


def _reference(plan: Plan) -> Sample:
    """Send the same messages through the reference server."""
    with (
        child("stub_vendor", str(RENDER_SECONDS)) as vendor,
        listen() as sock,
        reference_server(str(vendor.port), str(port_of(sock))) as process,
    ):
        before = process.usage()
        sample = uvloop.run(JobLoad(sock).run(process.port, plan.seconds))
        return replace(sample, usage=process.usage() - before)
