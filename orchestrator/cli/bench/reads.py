"""What callers read: lists by every filter, shows, timelines; in a large database beside one of a thousand jobs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.cli.bench import crowd
from orchestrator.cli.bench.figures import Figure, Limit, Result, quantile
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan, Spoiled
from orchestrator.cli.bench.raw import Line, line, request, run
from orchestrator.cli.bench.service import AUTHORIZATION, accounts_of, service

#: Jobs of the small database, and of the large one unless the plan says otherwise.
FEW, MANY = 1_000, 100_000
#: Requests of each kind in a round, at most.
_MOST = 400
_WARM = 5
Reads = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of each request, and how many rows an answer had."""

    seconds: list[float]
    rows: int


def bench(plan: Plan) -> Result:
    """Measure both databases in turns, request by request: what disturbs one disturbs the other."""
    many = plan.jobs or MANY
    spent: dict[str, dict[str, list[Spent]]] = {"few": {}, "many": {}}
    with contextlib.ExitStack() as stack:
        ports = {}
        reads: dict[str, Reads] = {}
        for name, jobs in (("few", FEW), ("many", many)):
            here = stack.enter_context(place(plan))
            plan.tell(f"reads: laying down {jobs:,} jobs")
            with here.writing() as engine:
                reads[name] = crowd.lay(engine, jobs)
            ports[name] = stack.enter_context(service(here, accounts_of(crowd.ACCOUNTS))).port
        for number in range(plan.rounds):
            plan.tell(f"reads: round {number + 1} of {plan.rounds}")
            for kind in reads["few"]:
                asking = {name: (port, reads[name][kind]) for name, port in ports.items()}
                for name, one in run(_asked(asking, 2 * plan.seconds / len(reads["few"]))).items():
                    spent[name].setdefault(kind, []).append(one)
    figures = [figure for share in (0.5, 0.99) for figure in _figures(spent, share)]
    count = sum(
        len(one.seconds) for kinds in spent.values() for rounds in kinds.values() for one in rounds
    )
    rows = {kind: rounds[0].rows for kind, rounds in spent["many"].items()}
    return Result(
        "reads",
        count,
        figures,
        more={"few": FEW, "many": many, "paths": reads["many"], "rows": rows},
    )


def _figures(spent: Mapping[str, Mapping[str, list[Spent]]], share: float) -> Iterator[Figure]:
    """Yield a quantile of each kind of request with many jobs, beside the same with few."""
    for kind, rounds in spent["many"].items():
        ours, few = (
            [1000 * quantile(one.seconds, share) for one in each]
            for each in (rounds, spent["few"][kind])
        )
        yield Figure(f"{kind}_p{round(100 * share)}_ms", ours, [Limit(f"{FEW:,} jobs", few)])


async def _asked(asking: Mapping[str, tuple[int, str]], seconds: float) -> dict[str, Spent]:
    """Ask each service for its path, by turns, one request at a time. Raises `Spoiled` for an answer that is no 200."""
    there = {name: await line(port) for name, (port, _) in asking.items()}
    spent: dict[str, list[float]] = {name: [] for name in asking}
    rows: dict[str, int] = {}
    until, turn = time.perf_counter() + seconds, 0
    while turn < _WARM + _MOST and (time.perf_counter() < until or turn < 2 * _WARM):
        for name, (_, path) in asking.items():
            began = time.perf_counter()
            body = await _answer(there[name], path)
            if turn >= _WARM:
                spent[name].append(time.perf_counter() - began)
            else:
                rows[name] = len(json.loads(body).get("data", ()))
        turn += 1
    for one in there.values():
        await one.close()
    return {name: Spent(spent[name], rows[name]) for name in asking}


async def _answer(there: Line, path: str) -> bytes:
    status, body = await there.ask(request("GET", path, headers=AUTHORIZATION))
    if status != 200:
        raise Spoiled(f"GET {path} was answered {status}: {body[:200].decode(errors='replace')}")
    return body
