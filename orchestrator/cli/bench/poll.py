"""Status queries: jobs per second with one or with twenty jobs per query, and the cost of no query.

Limits: bare aiohttp for queries per second, one job per query for the costs of a job, and an empty
database for the CPU at rest.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import aiohttp
import uvloop

from orchestrator.cli.bench import seed
from orchestrator.cli.bench.load_generator import repeat, wait_for
from orchestrator.cli.bench.measurement import Figure, Integrity, Plan, Result, Sample, interleave
from orchestrator.cli.bench.scratch_database import ScratchDatabase, scratch_database
from orchestrator.cli.bench.service import Child, accounts_of, child, service
from orchestrator.cli.bench.stub_vendor import fetch_counts
from orchestrator.cli.bench.verification import FIRST_JOB
from orchestrator.database.tables import job
from orchestrator.foundation.states import JobState

#: Kling's two standards, an account each: how many jobs a query may be about.
STANDARDS: Mapping[str, str] = {"by_1": "legacy", "by_20": "new"}
BARE, EMPTY = "bare aiohttp", "an empty database"
#: Concurrent queries of the service.
_IN_FLIGHT = 32
_COSTS: Mapping[str, Callable[[Sample], float]] = {
    "questions": lambda sample: sample.per_operation(sample.values["queries"]),
    "statements": lambda sample: sample.per_operation(sample.usage.statements),
    "cpu_ms": lambda sample: sample.per_operation(1000 * sample.usage.cpu),
}


def bench(plan: Plan) -> Result:
    """Measure a service with many live jobs, an empty one at rest, and a bare client."""
    live, samples = plan.jobs or 100_000, defaultdict[str, list[Sample]](list)
    measures: Mapping[str, Callable[[], Mapping[str, Sample]]] = {
        "service": partial(_service, plan, live),
        "bare": partial(_bare, plan),
        "empty": partial(_empty, plan),
    }
    for found in interleave(plan, "poll", measures).values():
        for each in found:
            for name, sample in each.items():
                samples[name].append(sample)
    bare, empty = ({name: samples[name]} for name in (BARE, EMPTY))
    figures = []
    for name in STANDARDS:
        ours, limits = samples[name], {} if name == "by_1" else {"one by one": samples["by_1"]}
        figures += [
            Figure.of(f"jobs_per_s_{name}", lambda sample: sample.rate, ours),
            Figure.of(f"questions_per_s_{name}", partial(Sample.value, name="per_s"), ours, bare),
            *(Figure.of(f"{of}_per_job_{name}", cost, ours, limits) for of, cost in _COSTS.items()),
        ]
    percent = partial(Sample.value, name="percent")
    figures.append(Figure.of("idle_percent_of_a_core", percent, samples["idle"], empty))
    return Result("poll", samples["by_1"] + samples["by_20"], figures, {"live": live})


def _service(plan: Plan, live: int) -> dict[str, Sample]:
    """Return the service at rest, and how it queried the due jobs of each account."""
    jobs, accounts = max(_IN_FLIGHT, int(plan.seconds * 1000)), len(STANDARDS)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        vendor = stack.enter_context(child("stub_vendor", "0"))
        with database.writing() as engine:
            seed.submitted_jobs(engine, live, accounts, era=seed.HISTORY)
            seed.submitted_jobs(engine, jobs * accounts, accounts, state=JobState.PROCESSING)
        settings = accounts_of(accounts, base_url=f"http://127.0.0.1:{vendor.port}")
        for account, standard in zip(settings.values(), STANDARDS.values(), strict=True):
            account["options"] = {"standard": standard}
        process = stack.enter_context(service(database, settings))
        found = {"idle": _cpu_percent(process, plan)}
        for name, account in zip(STANDARDS, settings, strict=True):
            found[name] = _poll(database, process, vendor.port, account, jobs)
        return found


def _poll(
    database: ScratchDatabase, process: Child, vendor: int, account: str, jobs: int
) -> Sample:
    """Make the jobs of an account due at once, and wait until each was queried."""

    async def queried() -> int:
        return (await fetch_counts(vendor))["tasks"]

    earlier, before = uvloop.run(fetch_counts(vendor)), process.usage()
    seed.make_due(database, job, job.c.id >= FIRST_JOB, job.c.account == account)
    seconds = uvloop.run(wait_for(queried, earlier["tasks"] + jobs, "jobs were queried", 0.01))
    used, now = process.usage() - before, uvloop.run(fetch_counts(vendor))
    count, queries = now["tasks"] - earlier["tasks"], now["queries"] - earlier["queries"]
    integrity = Integrity(lost=max(0, jobs - count), duplicated=max(0, count - jobs))
    values = {"queries": queries, "per_s": queries / seconds}
    return Sample(count, count / seconds, usage=used, integrity=integrity, values=values)


def _bare(plan: Plan) -> dict[str, Sample]:
    """Return a client that parses the answers to its queries and does nothing else."""

    async def main(url: str) -> Sample:
        connector = aiohttp.TCPConnector(limit=_IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def query() -> None:
                async with session.get(url) as answer:
                    await answer.json()

            sample = await repeat(plan.seconds, _IN_FLIGHT, query)
        return replace(sample, values={"per_s": sample.rate})

    with child("stub_vendor", "0") as vendor:
        url = f"http://127.0.0.1:{vendor.port}/v1/videos/text2video/1"
        return {BARE: uvloop.run(main(url))}


def _empty(plan: Plan) -> dict[str, Sample]:
    with scratch_database(plan) as database, service(database, accounts_of(1)) as process:
        return {EMPTY: _cpu_percent(process, plan)}


def _cpu_percent(process: Child, plan: Plan) -> Sample:
    """Return the percentage of a core that a service uses while nothing is due."""
    # The work that a start leaves behind is not measured.
    time.sleep(min(1.0, plan.seconds))
    before = process.usage()
    time.sleep(plan.seconds)
    used = process.usage() - before
    return Sample(0, values={"percent": 100 * used.cpu / used.at})
