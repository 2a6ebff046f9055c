"""What status queries cost, and how late lost pushes are found: the whole product in virtual time.

    python -m tests.simulate.economy --jobs 4000 --lost 0.01

The product runs on a database in memory; a vendor renders with log-normal latencies, pushes the end
of a render once, and loses a share of its pushes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchestrator.app import application, build
from orchestrator.database.membership import ALONE, Membership
from orchestrator.engine.lifecycle import LEARN, make_workers
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.settings import Settings
from orchestrator.jobs.capacity import ensure_accounts
from tests.harness.api_caller import KEY
from tests.simulate.asgi import send_request
from tests.simulate.clock import SkewedClock
from tests.simulate.database import empty_engine
from tests.simulate.dialects import DIALECTS, PROCESSING, SUCCEEDED, Render
from tests.simulate.loop import VirtualLoop
from tests.simulate.writers import CommitFate, SimulatedStore

#: Seconds from the start of a render to its end, by model.
Latency = Callable[[random.Random], float]


def log_normal(median: float, sigma: float = 0.6) -> Latency:
    """Return log-normal latencies."""
    return lambda rng: median * math.exp(sigma * rng.gauss(0, 1))


def bimodal(rng: random.Random) -> float:
    """Return a latency near 15 seconds or near two minutes."""
    return (15 if rng.random() < 0.5 else 120) * math.exp(0.3 * rng.gauss(0, 1))


#: The models of a mix.
MIX: Mapping[str, Latency] = {"m60": log_normal(60), "m20": log_normal(20), "m15-120": bimodal}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Jobs of some models at a vendor. `warm`: jobs before, which are not counted."""

    latencies: Mapping[str, Latency]
    jobs: int = 2000
    warm: int = 500
    lost: float = 0.01
    #: Submissions a second.
    rate: float = 2.0
    poll: Mapping[str, Any] = field(default_factory=dict)
    #: Latencies of the jobs that are counted, if they change.
    later: Mapping[str, Latency] | None = None
    #: False: the vendor does not say when a task changed.
    timestamps: bool = True
    seed: int = 1


@dataclass(slots=True)
class Costs:
    """Of the jobs that are counted: status queries, and the delays of lost pushes in seconds."""

    jobs: int = 0
    queries: int = 0
    delays: list[float] = field(default_factory=list)
    by_model: dict[str, list[float]] = field(default_factory=dict)
    queries_by_model: dict[str, int] = field(default_factory=dict)

    @property
    def per_job(self) -> float:
        """Status queries per job."""
        return self.queries / max(1, self.jobs)

    def delay(self, share: float) -> float:
        """A quantile of the delays."""
        return quantile(self.delays, share)


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile (nearest rank); nan without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def run(scenario: Scenario) -> Costs:
    """Run a scenario to its end."""
    loop = VirtualLoop(random.Random(scenario.seed), lambda _: None)
    try:
        return loop.run_until_complete(_Run(scenario, loop).run())
    finally:
        loop.dispose()


class _Host:
    """The process of the store: it never crashes."""

    is_up = True

    def fate(self) -> CommitFate:
        return CommitFate.FINE

    def die(self) -> None:
        raise AssertionError("nothing crashes here")

    def on_commit(self) -> None:
        """Ignore it."""

    def wake_others(self, stage: str) -> None:
        """Ignore it: there is one process."""


@dataclass(slots=True)
class _Task:
    model: str
    render: Render
    ends_at: float
    is_lost: bool
    is_counted: bool
    found_at: float | None = None


class _Run(httpx.AsyncBaseTransport):
    """The vendor, as the transport of the product, and the product."""

    def __init__(self, scenario: Scenario, loop: VirtualLoop) -> None:
        self._scenario = scenario
        self._loop = loop
        self._rng = random.Random(scenario.seed)
        self._dialect = DIALECTS["kling"]
        self._tasks: dict[str, _Task] = {}
        self._runtime: Runtime | None = None
        self._app: Any = None
        self._costs = Costs()
        self._open: set[asyncio.Task[None]] = set()

    async def run(self) -> Costs:
        """Submit all jobs, wait for their ends, and return what they cost."""
        await self._start()
        scenario, total = self._scenario, self._scenario.warm + self._scenario.jobs
        for number in range(total):
            self._loop.steps = 0
            await self._submit(number)
            await asyncio.sleep(self._rng.expovariate(scenario.rate))
        while any(task.found_at is None for task in self._tasks.values()):
            self._loop.steps = 0
            await asyncio.sleep(5)
        for task in self._tasks.values():
            if task.is_counted and task.is_lost and task.found_at is not None:
                delay = task.found_at - task.ends_at
                self._costs.delays.append(delay)
                self._costs.by_model.setdefault(task.model, []).append(delay)
        return self._costs

    async def _start(self) -> None:
        empty_engine()
        account = {
            "vendor": "kling", "api_key": "k", "base_url": "https://kling.example.com",
            "max_in_flight": 10_000, "poll": dict(self._scenario.poll),
        }  # fmt: skip
        settings = Settings.model_validate(
            {
                "secret_keys": ["economy-" + "k" * 32], "api_keys": [KEY],
                "public_url": "https://hooks.example.com", "accounts": {"kling": account},
            }
        )  # fmt: skip
        clock = SkewedClock(self._loop.time, 0)
        rng = random.Random(self._scenario.seed + 1)
        membership = Membership()
        membership.hold(ALONE) if hasattr(membership, "hold") else None
        store = SimulatedStore(_Host(), rng, membership, None)
        runtime = build(settings, clock=clock, rng=rng, transport=self, store=store)
        await runtime.store.write(ensure_accounts, sorted(runtime.vendors))
        runtime.notifier.workers.update(make_workers(runtime))
        for worker in runtime.notifier.workers.values():
            worker.start()
        self._runtime, self._app = runtime, application(runtime)
        self._spawn(self._tick(runtime))

    async def _tick(self, runtime: Runtime) -> None:
        beats = 0
        while True:
            await asyncio.sleep(1)
            beats += 1
            for stage in ("submit", "poll"):
                runtime.notifier.wake(stage)
            if beats % LEARN == 0:
                await runtime.learning.run()

    async def _submit(self, number: int) -> None:
        model = self._rng.choice([*self._scenario.latencies])
        body = {"account": "kling", "model": model, "capability": "text2video",
                "input": {"prompt": str(number)}}  # fmt: skip
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        response = await send_request(
            self._app, "POST", "/v1/jobs", json.dumps(body).encode(), headers
        )
        assert response.status == 202, response.body

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a submission or a status query."""
        request.extensions["sent"] = True
        await asyncio.sleep(0.05)
        asked = self._dialect.read(request)
        if asked.order is not None:
            return self._accept(json.loads(request.content), asked.order)
        (name,) = {*asked.tasks}
        task = self._tasks[name]
        if task.is_counted:
            self._costs.queries += 1
            by = self._costs.queries_by_model
            by[task.model] = by.get(task.model, 0) + 1
        ended = self._loop.time() >= task.ends_at
        if ended and task.found_at is None:
            task.found_at = self._loop.time()
        return self._dialect.answered([self._shown(task, ended)])

    def _shown(self, task: _Task, ended: bool) -> dict[str, Any]:
        render = task.render
        render.changed_at = task.ends_at if ended else render.accepted_at
        shown = self._dialect.show(
            render, SUCCEEDED if ended else PROCESSING, render.url if ended else None
        )
        start = SkewedClock(lambda: 0.0, 0).now().timestamp()
        shown["created_at"] += int(start * 1000)
        shown["updated_at"] += int(start * 1000)
        if not self._scenario.timestamps:
            del shown["updated_at"]
        return shown

    def _accept(self, body: dict[str, Any], order: dict[str, Any]) -> httpx.Response:
        now, number = self._loop.time(), len(self._tasks)
        counted = number >= self._scenario.warm
        latencies = self._scenario.latencies
        if counted and self._scenario.later is not None:
            latencies = self._scenario.later
        model = str(body["model_name"])
        render = Render("kling", order["external"], f"t{number}", order["callback"], now, now, "")
        task = _Task(model, render, now + latencies[model](self._rng),
                     self._rng.random() < self._scenario.lost, counted)  # fmt: skip
        self._tasks[render.task] = task
        self._costs.jobs += counted
        if not task.is_lost:
            self._spawn(self._push(task))
        return self._dialect.accepted(self._shown(task, ended=False))

    async def _push(self, task: _Task) -> None:
        await asyncio.sleep(task.ends_at - self._loop.time() + self._rng.uniform(0.05, 0.5))
        task.found_at = task.found_at or self._loop.time()
        path = httpx.URL(task.render.callback).raw_path.decode()
        body = json.dumps(self._shown(task, ended=True)).encode()
        headers = {"content-type": "application/json"}
        response = await send_request(self._app, "POST", path, body, headers)
        assert response.status == 200, response.body

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._open.add(task)
        task.add_done_callback(self._open.discard)


def main() -> None:
    """Print the costs of a scenario, with the adaptive and with the fixed policy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--warm", type=int, default=500)
    parser.add_argument("--lost", type=float, default=0.01)
    parser.add_argument("--delay", type=float, help="max_missed_delay")
    parser.add_argument("--model", choices=[*MIX, "mix"], default="m60")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-timestamps", action="store_true")
    parser.add_argument("--policies", default="adaptive,fixed")
    given = parser.parse_args()
    latencies = MIX if given.model == "mix" else {given.model: MIX[given.model]}
    for policy in given.policies.split(","):
        poll: dict[str, Any] = {"policy": policy}
        if given.delay and policy == "adaptive":
            poll["max_missed_delay"] = given.delay
        found = run(
            Scenario(latencies, given.jobs, given.warm, given.lost, poll=poll, seed=given.seed,
                     timestamps=not given.no_timestamps)
        )  # fmt: skip
        each = {
            model: [len(delays), *(round(quantile(delays, share), 1) for share in (0.5, 0.95))]
            for model, delays in sorted(found.by_model.items())
        }
        sys.stdout.write(
            f"{policy:9} lost {given.lost} polls per job {found.per_job:.3f}, lost ones found "
            f"after p50 {found.delay(0.5):.1f} p95 {found.delay(0.95):.1f} s; {each}\n"
        )


if __name__ == "__main__":
    main()
