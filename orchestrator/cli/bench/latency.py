"""Push -> delivered and whole jobs at low load, and pushes next to subscribers that hang.

Limits: a relay that stores nothing, and the service without those subscribers.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial

import uvloop

from orchestrator.cli.bench import measurement, seed, verification
from orchestrator.cli.bench.deliver import all_arrivals
from orchestrator.cli.bench.ingest import Jobs, pushes, shuffled
from orchestrator.cli.bench.load_generator import delays, pace, submission, subscribe
from orchestrator.cli.bench.measurement import Plan, Result, Sample
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.service import Child, accounts_of, child, reference_server, service
from orchestrator.cli.bench.stub_subscriber import HANGING, check_arrivals, count_arrivals

#: Pushes per second of `latency`, and of `isolation`.
PER_S, ISOLATION_PER_S = 20, 60
#: Seconds of pushes before those that are measured: a service that has just started still loads.
WARM_UP = 2.0
RELAY = "bare relay"


def bench(plan: Plan) -> Result:
    """Measure the service and the relay."""
    measures = {
        "service": partial(_service, plan, PER_S),
        RELAY: partial(_relay, plan),
        "jobs": partial(_jobs, plan),
    }
    rounds = measurement.interleave(plan, "latency", measures)
    ours, jobs = rounds["service"], rounds["jobs"]
    figures = measurement.latencies(ours, {RELAY: rounds[RELAY]})
    figures += measurement.costs("delivery", ours)
    figures += measurement.latencies(jobs, {}, (0.5, 0.95), "whole_job_{}_ms")
    # Without the memory: it was shown.
    figures += measurement.costs("job", jobs)[:-1]
    more = {"pushes_per_s": PER_S, "jobs_per_s": PER_S}
    return Result("latency", ours, figures, more, unmeasured=jobs)


def isolation(plan: Plan) -> Result:
    """Measure the service without and with subscribers that hang."""
    alone, hanging = (partial(_service, plan, ISOLATION_PER_S, modes) for modes in ((), HANGING))
    rounds = measurement.interleave(plan, "isolation", {"alone": alone, "hanging": hanging})
    ours = rounds["hanging"]
    figures = measurement.latencies(ours, {"without the slow ones": rounds["alone"]})
    held = int(sum(sample.values["held"] for sample in ours))
    more = {"pushes_per_s": ISOLATION_PER_S, "requests_the_slow_ones_held": held}
    return Result("isolation", ours, figures, more, unmeasured=rounds["alone"])


def _service(plan: Plan, per_s: float, hanging: tuple[str, ...] = ()) -> Sample:
    """Push and deliver, next to subscribers that hang; `held` counts the requests they hold."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        subscriber = stack.enter_context(child("stub_subscriber"))
        with database.writing() as engine:
            seed.background(engine, plan)
            seed.subscribe(engine, f"http://127.0.0.1:{subscriber.port}/hook")
            jobs = shuffled(seed.submitted_jobs(engine, _count(plan, per_s)))
        process = stack.enter_context(service(database, accounts_of(1)))
        # Started after the service, to end before it: it would wait for their answers.
        ports = [stack.enter_context(child("stub_subscriber", mode)).port for mode in hanging]
        for port in ports:
            subscribe(process.port, f"http://127.0.0.1:{port}/hook")
        sample = _push_paced(process, subscriber.port, jobs, per_s)
        held = sum(uvloop.run(count_arrivals(port)) for port in ports)
        return replace(sample, values={"held": held})


def _jobs(plan: Plan) -> Sample:
    """Submit jobs, that a vendor pushes at once; the latencies are up to their deliveries."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        vendor = stack.enter_context(child("stub_vendor", "0"))
        subscriber = stack.enter_context(child("stub_subscriber"))
        with database.writing() as engine:
            seed.background(engine, plan)
            seed.subscribe(engine, f"http://127.0.0.1:{subscriber.port}/hook")
        accounts = accounts_of(1, base_url=f"http://127.0.0.1:{vendor.port}")
        with service(database, accounts) as process:
            count, warm = _count(plan, PER_S), int(WARM_UP * PER_S)
            uvloop.run(pace(process.port, [submission()] * warm, 1 / PER_S))
            uvloop.run(all_arrivals(subscriber.port, warm))
            before = process.usage()
            requests = [submission()] * (count - warm)
            sent = uvloop.run(pace(process.port, requests, 1 / PER_S))
            arrivals = uvloop.run(all_arrivals(subscriber.port, count))
            used = process.usage() - before
        latencies = delays({json.loads(answer)["id"]: at for at, answer in sent}, arrivals)
        integrity = check_arrivals(arrivals, count) + verification.check_jobs(database)
        return Sample(len(latencies), latencies=latencies, usage=used, integrity=integrity)


def _relay(plan: Plan) -> Sample:
    jobs = [(number, f"job_{number}") for number in range(_count(plan, PER_S))]
    with (
        child("stub_subscriber") as subscriber,
        reference_server("0", str(subscriber.port)) as process,
    ):
        return _push_paced(process, subscriber.port, jobs, PER_S)


def _push_paced(process: Child, subscriber: int, jobs: Jobs, per_s: float) -> Sample:
    """Push at a fixed rate; the latencies are from each push to its delivery."""
    warm = int(WARM_UP * per_s)
    uvloop.run(pace(process.port, pushes(jobs[:warm], 1), 1 / per_s))
    uvloop.run(all_arrivals(subscriber, warm))
    before, measured = process.usage(), jobs[warm:]
    sent = uvloop.run(pace(process.port, pushes(measured, 1), 1 / per_s))
    arrivals = uvloop.run(all_arrivals(subscriber, len(jobs)))
    used = process.usage() - before
    times = {job: at for (_, job), (at, _) in zip(measured, sent, strict=True)}
    latencies = delays(times, arrivals)
    integrity = check_arrivals(arrivals, len(jobs))
    return Sample(len(latencies), latencies=latencies, usage=used, integrity=integrity)


def _count(plan: Plan, per_s: float) -> int:
    """Return the number of pushes, those that are not measured included."""
    return max(10, int(plan.seconds * per_s)) + int(WARM_UP * per_s)
