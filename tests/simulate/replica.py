"""One replica: the whole product in one virtual process, which may crash, freeze, drain and start again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.app import application, build
from orchestrator.engine.lifecycle import make_workers
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import Unavailable
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.vendors.contract import Lookup
from tests.simulate.doors import Answered, ask
from tests.simulate.loop import Process
from tests.simulate.network import Network
from tests.simulate.start import SkewedClock
from tests.simulate.ticks import tick
from tests.simulate.writers import Fate, SharedStore

if TYPE_CHECKING:
    from tests.simulate.world import World

_DRAIN = 15.0


class Replica:
    """A place where processes of the product run, one after the other."""

    def __init__(self, world: World, name: str, skew: float) -> None:
        self.name = name
        self._world = world
        self._clock = SkewedClock(world.loop.time, skew)
        self._lives = 0
        self._wake: asyncio.Event | None = None
        self._open: dict[asyncio.Future[Answered | None], None] = {}
        self._graves: list[object] = []
        self.process: Process | None = None
        self.runtime: Runtime | None = None
        self._app: Any = None
        self._draining = False

    # -- its life

    def start(self) -> None:
        """Begin a life."""
        self._lives += 1
        self._draining = False
        self._world.trace.say(self.name, "starts")
        self.process = Process(self.name)
        life = self._world.loop.create_task(
            self._live(self.process), context=self.process.context()
        )
        life.add_done_callback(self._world.ended)

    async def _live(self, process: Process) -> None:
        world = self._world
        rng = random.Random(f"{world.plan.seed} {self.name} {self._lives}")
        store = SharedStore(self, rng, single=world.plan.single)
        runtime = build(
            world.settings, clock=self._clock, rng=rng, transport=Network(world), store=store
        )
        # No dialect we know can be resent by key, but the engine has a way for one that could.
        runtime.vendors["keyed"].lookup = Lookup.BY_KEY
        while True:
            try:
                await runtime.store.write(ensure_accounts, sorted(runtime.vendors))
                break
            except Unavailable:
                await asyncio.sleep(1)
        workers = make_workers(runtime)
        runtime.notifier.workers.update(
            {stage: workers[stage] for stage in ("submit", "poll", "deliver")}
        )
        for worker in runtime.notifier.workers.values():
            worker.start()
        self.runtime, self._app, self._wake = runtime, application(runtime), asyncio.Event()
        await tick(world, runtime, self._wake)

    def rouse(self) -> None:
        """Let the next tick happen: something has changed."""
        if self._wake is not None:
            self._wake.set()

    def freeze(self, seconds: float) -> None:
        """Stop the process, as SIGSTOP does."""
        if self.process is not None and not self.process.dead:
            self._world.trace.say(self.name, "freezes", round(seconds, 3))
            self.process.frozen_until = self._world.loop.time() + seconds

    def drain(self) -> None:
        """End a life in good order."""
        if not self.is_up or self.runtime is None or self._draining:
            return
        self._draining = True
        self._world.trace.say(self.name, "drains")
        process, runtime = self.process, self.runtime
        assert process is not None

        async def stop() -> None:
            with contextlib.suppress(Unavailable):
                await asyncio.gather(
                    *(stage.stop(_DRAIN) for _, stage in sorted(runtime.notifier.workers.items()))
                )
            self._world.loop.call_soon(self.die)

        self._world.loop.create_task(stop(), context=process.context())

    # -- the database's host

    @property
    def is_up(self) -> bool:
        """True while its process lives and has come up."""
        return self.process is not None and not self.process.dead and self.runtime is not None

    def fate(self) -> Fate:
        """Draw what becomes of the next commit."""
        return self._world.commit_fate()

    def die(self) -> None:
        """Crash: nothing of this process ever runs again, and whoever it was talking to loses the connection."""
        process = self.process
        if process is None or process.dead:
            return
        process.dead = True
        self._world.trace.say(self.name, "dies")
        self._graves += [self.runtime, self._app, self._wake]
        self.runtime, self._app, self._wake = None, None, None
        for answer in self._open:
            if not answer.done():
                answer.set_result(None)
        self._open.clear()
        self._world.died(self)

    def committed(self) -> None:
        """Something is durable."""
        self._world.committed(self)

    def others(self, stage: str) -> None:
        """Wake a stage of the other replicas."""
        self._world.wake_others(self, stage)

    # -- its doors

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answered | None:
        """Return what it answers; None if it cannot be reached, or dies over it."""
        if not self.is_up:
            return None
        process, app = self.process, self._app
        assert process is not None
        answer: asyncio.Future[Answered | None] = self._world.loop.create_future()
        self._open[answer] = None

        async def serve() -> None:
            answered = await ask(app, method, path, body, headers or {})
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
