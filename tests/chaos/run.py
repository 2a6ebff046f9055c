"""One run: a test bed, a load and a fault; then a quiet phase, and the audit."""

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
from tests.chaos.postgres_server import Server
from tests.chaos.testbed import Environment, Plan, Size, Testbed, testbed
from tests.harness.audit import Finding, Json, Observed, ServiceDatabase, findings

KINDS = ("sqlite", "postgresql")
#: Faults of the simulated vendors in every run.
FAULTS: Json = {
    "cut_answer": 0.05,
    "drop_push": 0.05,
    "duplicate_push": 0.1,
    "server_error": 0.03,
    "fail_render": 0.05,
}
#: Seconds for load and fault, in addition to the expected duration of the load.
_LOAD_TIMEOUT = 120.0
#: Seconds after the last deadline within which all work must end.
_SETTLE_TIMEOUT = 40.0


def no_variables(_bed: Testbed, _replica: object) -> Mapping[str, str]:
    """Add no environment variable."""
    return {}


@dataclass(frozen=True)
class Fault:
    """A fault injected during the load. `strike` counts its hits and returns after the last."""

    name: str
    strike: Callable[[Testbed], Coroutine[None, None, None]]
    world: Json = field(default_factory=dict)
    environment: Environment = no_variables
    on: tuple[str, ...] = KINDS
    leases: str = "short"
    #: True if a proxy stands between replicas and their database.
    remote: bool = False


@dataclass
class Run:
    """The result of one run."""

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
    #: Errors in the logs of the processes, counted.
    errors: Counter[str] = field(default_factory=Counter)

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.wrong)


async def execute(
    fault: Fault, folder: Path, seed: int, server: Server | None, size: Size | None = None
) -> Run:
    """Run a fault and audit the result."""
    size, started = size or Size(), time.monotonic()
    run = Run(fault.name, "postgresql" if server else "sqlite", seed)
    plan = Plan(
        folder,
        seed,
        server,
        size,
        {**FAULTS, **fault.world},
        fault.leases,
        fault.environment,
        fault.remote,
    )
    async with testbed(plan) as bed:
        run.wrong += await _play(fault, bed, size)
        run.exit_codes = await bed.close(signal.SIGTERM)
        run.report = await bed.sim.report()
    run.load, run.hits, run.books = bed.load, bed.hits, ServiceDatabase(bed.database)
    run.errors = logged(folder)
    seen = Observed(bed.load.owned, run.report, size.limit)
    run.wrong += [*findings(run.books, seen), *_process_violations(run, bed)]
    run.seconds = time.monotonic() - started
    return run


async def _play(fault: Fault, bed: Testbed, size: Size) -> list[Finding]:
    """Run load and fault, then wait until all work has ended. Return what did not end."""
    try:
        async with asyncio.timeout(_LOAD_TIMEOUT + size.orders / size.rate):
            await bed.ready()
            hook, slack = (bed.subscriber.url + path for path in ("/hook", "/slack"))
            await listen(bed.sim, bed.load.http, hook, slack)
            async with asyncio.TaskGroup() as both:
                both.create_task(_load(bed))
                both.create_task(fault.strike(bed))
        bed.calm()
        await bed.ready()
        await settled(bed.load.http, size.deadline + _SETTLE_TIMEOUT)
    except TimeoutError:
        return [Finding("stuck", "the load was not accepted in time")]
    except AssertionError as error:
        return [Finding("stuck", str(error))]
    return []


async def _load(bed: Testbed) -> None:
    await bed.load.run()
    bed.loaded.set()


def _process_violations(run: Run, bed: Testbed) -> Iterator[Finding]:
    if not bed.hits:
        yield Finding("wrong", "the fault never occurred")
    yield from bed.wrong
    unexpected = [code for code in run.exit_codes if code not in (0, -signal.SIGTERM)]
    if unexpected:
        yield Finding("wrong", f"after SIGTERM, processes exited with {unexpected}")


def logged(folder: Path) -> Counter[str]:
    """Return the errors in the logs. Expected failures are logged at lower levels."""
    found: Counter[str] = Counter()
    for log in folder.glob("replica-*.log"):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                entry = json.loads(line)
                if entry.get("level") in ("error", "critical"):
                    last = str(entry.get("exception", "")).rpartition("\n")[2]
                    found[f"{entry.get('event')} {last}".strip()[:200]] += 1
            elif "Error" in line:
                found[line[:200]] += 1
    return found
