"""One run: a stage, a load, a fault beside it; then quiet, and the auditor."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.load import Load, listen, settled
from tests.chaos.stage import Environment, Means, Plan, Size, Stage, stage
from tests.harness.audit import Finding, Json, Observed, ServiceDatabase, findings

KINDS = ("sqlite", "postgresql")
#: How the simulated world behaves whatever else happens.
FAULTS: Json = {
    "cut_answer": 0.05,
    "drop_push": 0.05,
    "duplicate_push": 0.1,
    "server_error": 0.03,
    "fail_render": 0.05,
}
#: Seconds for the load and the fault, beyond what the load takes by itself.
_PATIENCE = 120.0
#: Seconds for everything to end after that, beyond the last deadline.
_QUIET = 40.0


def nothing(_stage: Stage, _replica: object) -> Mapping[str, str]:
    """Give a process nothing."""
    return {}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong while jobs are submitted. `strike` returns when it has; each time counts as a hit."""

    name: str
    strike: Callable[[Stage], Coroutine[None, None, None]]
    world: Json = field(default_factory=dict)
    environment: Environment = nothing
    on: tuple[str, ...] = KINDS
    leases: str = "hasty"
    #: True if a network is to stand between replicas and their database, to be struck at.
    remote: bool = False


@dataclass
class Run:
    """What one run came to."""

    fault: str
    database: str
    seed: int
    hits: int = 0
    seconds: float = 0.0
    load: Load | None = None
    report: Json = field(default_factory=dict)
    books: ServiceDatabase | None = None
    exit_codes: list[int] = field(default_factory=list)
    wrong: list[Finding] = field(default_factory=list)
    #: What the processes logged as errors, and how often.
    errors: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str) -> int:
        """Return the complaints of a kind."""
        return sum(one.kind == kind for one in self.wrong)


async def execute(
    fault: Fault, folder: Path, seed: int, means: Means, size: Size | None = None
) -> Run:
    """Run a fault on SQLite, or on a server, and audit it."""
    size, started = size or Size(), time.monotonic()
    run = Run(fault.name, "postgresql" if means.server else "sqlite", seed)
    plan = Plan(
        folder,
        seed,
        means,
        size,
        {**FAULTS, **fault.world},
        fault.leases,
        fault.environment,
        fault.remote,
    )
    async with stage(plan) as it:
        run.wrong += await _play(fault, it, size)
        run.exit_codes = await it.close(signal.SIGTERM)
        run.report = await it.sim.report()
    run.load, run.hits, run.books = it.load, it.hits, ServiceDatabase(it.database)
    run.errors = logged(folder)
    seen = Observed(it.load.owned, run.report, size.limit)
    run.wrong += [*findings(run.books, seen), *_of_processes(run, it)]
    run.seconds = time.monotonic() - started
    return run


async def _play(fault: Fault, it: Stage, size: Size) -> list[Finding]:
    """Load and strike, then wait for the end of everything. What never comes is complained of."""
    try:
        async with asyncio.timeout(_PATIENCE + size.orders / size.rate):
            await it.ready()
            hook, slack = (it.subscriber.url + path for path in ("/hook", "/slack"))
            await listen(it.sim, it.load.http, hook, slack)
            async with asyncio.TaskGroup() as both:
                both.create_task(_loading(it))
                both.create_task(fault.strike(it))
        it.calm()
        await it.ready()
        await settled(it.load.http, size.deadline + _QUIET)
    except TimeoutError:
        return [Finding("stuck", "the load was not taken in time")]
    except AssertionError as error:
        return [Finding("stuck", str(error))]
    return []


async def _loading(it: Stage) -> None:
    await it.load.run()
    it.loaded.set()


def _of_processes(run: Run, it: Stage) -> Iterator[Finding]:
    if not it.hits:
        yield Finding("wrong", "the fault never struck")
    yield from it.wrong
    strange = [code for code in run.exit_codes if code not in (0, -signal.SIGTERM)]
    if strange:
        yield Finding("wrong", f"told to end, processes ended with {strange}")


def logged(folder: Path) -> Counter[str]:
    """Return what processes logged as errors: nothing that is expected to happen is one."""
    found: Counter[str] = Counter()
    for log in folder.glob("replica-*.log"):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                said = json.loads(line)
                if said.get("level") in ("error", "critical"):
                    last = str(said.get("exception", "")).rpartition("\n")[2]
                    found[f"{said.get('event')} {last}".strip()[:200]] += 1
            elif "Error" in line:
                found[line[:200]] += 1
    return found
