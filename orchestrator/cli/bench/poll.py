"""Asking: jobs a second where one question is about one job and where it is about twenty; and asking nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from orchestrator.cli.bench import seeding
from orchestrator.cli.bench.figures import Figure, Honest, Limit, Result, total
from orchestrator.cli.bench.gateway import count
from orchestrator.cli.bench.place import Place, place
from orchestrator.cli.bench.plan import Plan, Spoiled
from orchestrator.cli.bench.processes import child
from orchestrator.cli.bench.raw import run
from orchestrator.cli.bench.service import Service, Usage, accounts_of, service
from orchestrator.database.tables import job
from orchestrator.foundation.states import JobState

#: Kling's two standards, an account each: how many jobs a question may be about.
BATCHES: Mapping[str, str] = {"by_1": "legacy", "by_20": "new"}
#: Questions under way at once in the service.
_IN_FLIGHT = 32
_PER_S = 1000
_LIVE = 100_000
_PATIENCE = 20.0
_LOOK = 0.01


@dataclass(frozen=True, slots=True)
class Asked:
    """What it took to ask about so many jobs."""

    jobs: int
    questions: int
    seconds: float
    used: Usage
    honest: Honest


def bench(plan: Plan) -> Result:
    """Measure a service with many live jobs, at rest and asking, an empty one at rest, and a bare client, in turns."""
    asked: dict[str, list[Asked]] = {name: [] for name in BATCHES}
    bare, idle, empty = list[float](), list[float](), list[float]()
    live = plan.jobs or _LIVE
    for number in range(plan.rounds):
        plan.tell(f"poll: round {number + 1} of {plan.rounds}")
        rest, found = _measure(plan, live)
        idle.append(rest)
        for name, one in found.items():
            asked[name].append(one)
        bare.append(_bare(plan))
        empty.append(_empty(plan))
    figures = [
        figure for name, rounds in asked.items() for figure in _figures(name, rounds, asked, bare)
    ]
    figures.append(Figure("idle_percent_of_a_core", idle, [Limit("an empty database", empty)]))
    every = [one for rounds in asked.values() for one in rounds]
    return Result(
        "poll",
        sum(one.jobs for one in every),
        figures,
        total([one.honest for one in every]),
        {"live": live},
    )


def _figures(
    name: str, ours: list[Asked], every: Mapping[str, list[Asked]], bare: list[float]
) -> list[Figure]:
    """Return the figures of one batch size; those for each job are beside those of asking one by one."""
    first = every["by_1"]
    return [
        Figure(f"jobs_per_s_{name}", [one.jobs / one.seconds for one in ours]),
        Figure(
            f"questions_per_s_{name}",
            [one.questions / one.seconds for one in ours],
            [Limit("bare aiohttp", bare)],
        ),
        *(
            Figure(
                f"{what}_per_job_{name}",
                [number(one) / one.jobs for one in ours],
                []
                if ours is first
                else [Limit("one by one", [number(one) / one.jobs for one in first])],
            )
            for what, number in _COSTS.items()
        ),
    ]


_COSTS: Mapping[str, Callable[[Asked], float]] = {
    "questions": lambda one: one.questions,
    "statements": lambda one: one.used.statements,
    "cpu_ms": lambda one: 1000 * one.used.cpu,
}


def _measure(plan: Plan, live: int) -> tuple[float, dict[str, Asked]]:
    """Return what a service takes at rest beside so many live jobs, and what it takes to ask about some of them."""
    jobs = max(_IN_FLIGHT, int(plan.seconds * _PER_S))
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(place(plan))
        vendor = stack.enter_context(child("orchestrator.cli.bench.gateway", "0"))
        with here.writing() as engine:
            seeding.submitted(engine, live, len(BATCHES), era=seeding.BEFORE)
            seeding.submitted(engine, jobs * len(BATCHES), len(BATCHES), state=JobState.PROCESSING)
        accounts = accounts_of(len(BATCHES), base_url=f"http://127.0.0.1:{vendor.port}")
        for account, standard in zip(accounts.values(), BATCHES.values(), strict=True):
            account["options"] = {"standard": standard}
        it = stack.enter_context(service(here, accounts))
        rest = _rest(it, plan)
        pairs = zip(BATCHES, accounts, strict=True)
        return rest, {name: _ask(here, it, vendor.port, account, jobs) for name, account in pairs}


def _ask(here: Place, it: Service, vendor: int, account: str, jobs: int) -> Asked:
    """Let an account's jobs be due at one instant, and see how long it takes until each was asked about."""
    already, before = run(count(vendor)), it.usage()
    seeding.release(here, job, job.c.account == account)
    seconds = run(_until(vendor, already["tasks"] + jobs))
    used, seen = it.usage() - before, run(count(vendor))
    asked = seen["tasks"] - already["tasks"]
    honest = Honest(max(0, jobs - asked), max(0, asked - jobs))
    return Asked(asked, seen["questions"] - already["questions"], seconds, used, honest)


async def _until(port: int, jobs: int) -> float:
    """Return the seconds from the first question seen to the last one. Raises `Spoiled` if they stay away."""
    first, last = None, time.monotonic()
    seen = (await count(port))["tasks"]
    while seen < jobs:
        await asyncio.sleep(_LOOK)
        if (now := (await count(port))["tasks"]) > seen:
            seen, last = now, time.monotonic()
            first = first or last - _LOOK
        elif time.monotonic() - last > _PATIENCE:
            raise Spoiled(f"{seen} of {jobs} jobs were asked about, and no more are")
    return last - (first or last - _LOOK)


def _bare(plan: Plan) -> float:
    """Return the questions a second that a bare client asks and parses the answers of."""
    with child("orchestrator.cli.bench.gateway", "0") as vendor:
        return run(_asking(f"http://127.0.0.1:{vendor.port}/v1/videos/text2video/1", plan.seconds))


async def _asking(url: str, seconds: float) -> float:
    started, done = time.perf_counter(), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_IN_FLIGHT)) as session:

        async def asker() -> None:
            nonlocal done
            while time.perf_counter() - started < seconds:
                async with session.get(url) as answer:
                    await answer.json()
                done += 1

        await asyncio.gather(*(asker() for _ in range(_IN_FLIGHT)))
    return done / (time.perf_counter() - started)


def _empty(plan: Plan) -> float:
    with place(plan) as here, service(here, accounts_of(1)) as it:
        return _rest(it, plan)


def _rest(it: Service, plan: Plan) -> float:
    """Return the share of a core, in percent, that a service takes while nothing is due."""
    # What a start leaves to do is not what is measured.
    time.sleep(min(1.0, plan.seconds))
    before = it.usage()
    time.sleep(plan.seconds)
    used = it.usage() - before
    return 100 * used.cpu / used.at
