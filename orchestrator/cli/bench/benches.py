"""Every bench by name, and which sizes it can be given."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import __version__
from orchestrator.cli.bench import (
    claims,
    deliver,
    fanout,
    growth,
    ingest,
    isolation,
    latency,
    lifecycle,
    memory,
    missed,
    poll,
    reads,
    start,
)
from orchestrator.cli.bench.figures import Json, Result
from orchestrator.cli.bench.plan import Plan
from orchestrator.database.postgres import engine as postgres

#: Fields of a plan that say how much is in the database.
SIZES = ("jobs", "history", "subscribers", "accounts", "waiting")
_BACKGROUND = frozenset({"jobs", "history", "subscribers", "waiting"})


@dataclass(frozen=True, slots=True)
class Bench:
    """What runs it, and the sizes that mean something to it."""

    run: Callable[[Plan], Result]
    takes: frozenset[str] = frozenset()


BENCHES: Mapping[str, Bench] = {
    "ingest": Bench(ingest.bench, frozenset(SIZES)),
    "deliver": Bench(deliver.bench, frozenset(SIZES)),
    "lifecycle": Bench(lifecycle.bench, frozenset(SIZES)),
    "latency": Bench(latency.bench, _BACKGROUND),
    "isolation": Bench(isolation.bench, _BACKGROUND),
    "fanout": Bench(fanout.bench, frozenset({"subscribers"})),
    "poll": Bench(poll.bench, frozenset({"jobs"})),
    "claims": Bench(claims.bench, frozenset({"jobs"})),
    "reads": Bench(reads.bench, frozenset({"jobs"})),
    "missed": Bench(missed.bench),
    "memory": Bench(memory.bench, frozenset({"jobs", "subscribers", "accounts"})),
    "start": Bench(start.bench, frozenset(SIZES)),
    "growth": Bench(growth.bench, frozenset(SIZES)),
}
#: Runs all but `growth`, which runs three of them again for every size.
ALL = "all"


def results(name: str, plan: Plan) -> Iterator[Result]:
    """Run a bench, or all of them, each with the sizes it takes. Raises `Spoiled` when a run measured nothing."""
    if name == ALL:
        for each, bench in BENCHES.items():
            if each != "growth":
                yield bench.run(replace(plan, **_unset(set(SIZES) - bench.takes)))
        return
    yield BENCHES[name].run(plan)


def misused(name: str, plan: Plan) -> str:
    """Return in words the sizes that a plan gives and a bench has no use for; nothing if there are none."""
    takes = frozenset(SIZES) if name == ALL else BENCHES[name].takes
    idle = [size for size in SIZES if getattr(plan, size) and size not in takes]
    known = ", ".join(f"--{size}" for size in SIZES if size in takes) or "no sizes"
    return f"{name} has no use for --{idle[0]}; it takes {known}" if idle else ""


def _unset(sizes: set[str]) -> dict[str, Any]:
    return {size: 0 if size == "history" else None for size in sizes}


def machine(plan: Plan) -> Json:
    """Return where and how it was measured: figures of different machines are not to be compared, ratios are."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "database": "postgresql" if postgres.is_postgres(plan.database) else "sqlite",
        "seconds": plan.seconds,
        "rounds": plan.rounds,
    }
