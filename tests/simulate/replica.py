"""One replica: the whole product in a virtual process that can crash, freeze, drain and restart."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.app import application, build
from orchestrator.engine.account_holds import AccountHolds
from orchestrator.engine.lifecycle import make_workers
from orchestrator.engine.recovery import Recovery
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import Unavailable
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.vendors.contract import Lookup
from tests.simulate.asgi import Response, send_request
from tests.simulate.clock import SkewedClock
from tests.simulate.loop import Process
from tests.simulate.network import Network
from tests.simulate.sessions import SimulatedMembership
from tests.simulate.ticks import tick
from tests.simulate.writers import CommitFate, SimulatedStore

if TYPE_CHECKING:
    from tests.simulate.world import World

_DRAIN = 15.0


class Replica:
    """Runs processes of the product, one after the other."""

    def __init__(self, world: World, name: str, skew: float) -> None:
        self.name = name
        self._world = world
        self._clock = SkewedClock(world.loop.time, skew)
        self._starts = 0
        self._wake: asyncio.Event | None = None
        self._open: dict[asyncio.Future[Response | None], None] = {}
        self._dead_objects: list[object] = []
        self.process: Process | None = None
        self.runtime: Runtime | None = None
        self._app: Any = None
        self._draining = False
        self.membership: SimulatedMembership | None = None
        self._ready_since = 0.0
        self.last_fate = CommitFate.FINE

    # -- lifecycle

    def start(self) -> None:
        """Start a process."""
        self._starts += 1
        self._draining = False
        self._world.trace.add(self.name, "starts")
        self.process = Process(self.name)
        life = self._world.loop.create_task(self._run(self.process), context=self.process.context())
        life.add_done_callback(self._world.check_task)

    async def _run(self, process: Process) -> None:
        world = self._world
        rng = random.Random(f"{world.plan.seed} {self.name} {self._starts}")
        membership = SimulatedMembership(world.loop.time, world.locks, rng)
        store = SimulatedStore(self, rng, membership, world.locks)
        self.membership = membership
        runtime = build(
            world.settings,
            clock=self._clock,
            rng=rng,
            transport=Network(world, self.name),
            store=store,
        )
        # No built-in dialect resends by idempotency key, but the engine supports it.
        runtime.vendors["keyed"].lookup = Lookup.BY_KEY
        while True:
            try:
                await runtime.store.write(ensure_accounts, sorted(runtime.vendors))
                await runtime.learning.run()
                await runtime.assemble(Recovery).start()
                await runtime.assemble(AccountHolds).start()
                break
            except Unavailable:
                await asyncio.sleep(1)
        self._ready_since = world.loop.time()
        # What was committed on the loop is not reported: claims, and what they released.
        world.checker.commit(self)
        world.checker.replica_started()
        workers = make_workers(runtime)
        runtime.notifier.workers.update(
            {stage: workers[stage] for stage in ("submit", "poll", "deliver")}
        )
        for worker in runtime.notifier.workers.values():
            worker.start()
        self.runtime, self._app, self._wake = runtime, application(runtime), asyncio.Event()
        await tick(world, runtime, self._wake)

    def wake_ticker(self) -> None:
        """Run the next tick early: work has become due."""
        if self._wake is not None:
            self._wake.set()

    def freeze(self, seconds: float) -> None:
        """Stop the process for some seconds, as SIGSTOP does."""
        if self.process is not None and not self.process.dead:
            ends = self._world.session_ends_in_freeze()
            # Longer than the grace, shorter than the leases.
            seconds = 5.0 + seconds / 10 if ends else seconds
            self._world.trace.add(self.name, "freezes", round(seconds, 3))
            self.process.frozen_until = self._world.loop.time() + seconds
            self._ready_since = max(self._ready_since, self.process.frozen_until)
            if self.membership is not None:
                self.membership.freeze(seconds)
                if ends:
                    self._world.later(0.1, self.lose_session)

    def lose_session(self) -> None:
        """End the session of the process at the server."""
        process, loop = self.process, self._world.loop
        if process is not None and self.membership is not None and not process.dead:
            self._world.trace.add(self.name, "loses its session")
            self._world.wake_tickers()
            self.membership.lose(
                lambda delay, run: loop.call_later(delay, run, context=process.context())
            )

    def drain(self) -> None:
        """Stop the workers and exit."""
        if not self.is_up or self.runtime is None or self._draining:
            return
        self._draining = True
        self._world.trace.add(self.name, "drains")
        process, runtime = self.process, self.runtime
        assert process is not None

        async def stop() -> None:
            with contextlib.suppress(Unavailable):
                await asyncio.gather(
                    *(stage.stop(_DRAIN) for _, stage in sorted(runtime.notifier.workers.items()))
                )
            self._world.loop.call_soon(self.die)

        self._world.loop.create_task(stop(), context=process.context())

    # -- `Host` of the database

    @property
    def is_up(self) -> bool:
        """True while the process runs and has started."""
        return self.process is not None and not self.process.dead and self.runtime is not None

    @property
    def ready_for(self) -> float:
        """For how many seconds it has been up, and not frozen."""
        return self._world.loop.time() - self._ready_since if self.is_up else 0.0

    def fate(self) -> CommitFate:
        """Draw the fate of the next commit."""
        self.last_fate = self._world.commit_fate()
        return self.last_fate

    def die(self) -> None:
        """Crash: no callback of the process runs again, and its requests lose their connection."""
        process = self.process
        if process is None or process.dead:
            return
        process.dead = True
        self._world.trace.add(self.name, "dies")
        if self.membership is not None:
            self.membership.die()
            self._world.wake_tickers()
        self._dead_objects += [self.runtime, self._app, self._wake]
        self.runtime, self._app, self._wake = None, None, None
        for answer in self._open:
            if not answer.done():
                answer.set_result(None)
        self._open.clear()
        self._world.schedule_restart(self)

    def on_commit(self) -> None:
        """Report a durable commit to the world."""
        self._world.on_commit(self)

    def wake_others(self, stage: str) -> None:
        """Wake a stage of the other replicas."""
        self._world.wake_others(self, stage)

    # -- HTTP

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Response | None:
        """Return the response; None if the replica is unreachable or crashes meanwhile."""
        if not self.is_up:
            return None
        process, app = self.process, self._app
        assert process is not None
        answer: asyncio.Future[Response | None] = self._world.loop.create_future()
        self._open[answer] = None

        async def serve() -> None:
            answered = await send_request(app, method, path, body, headers or {})
            if not answer.done():
                answer.set_result(answered)

        self._world.loop.create_task(serve(), context=process.context())
        try:
            async with asyncio.timeout(60):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._open.pop(answer, None)
