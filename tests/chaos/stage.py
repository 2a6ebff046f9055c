"""What one run happens on: the simulated world, the replicas, the database, and the network between them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from tests.chaos.load import ACCOUNTS, Load
from tests.chaos.proxy import Proxy
from tests.chaos.server import Server
from tests.harness.api_caller import KEY, eventually
from tests.harness.audit import Finding, Json
from tests.harness.processes import (
    Child,
    Replica,
    Simulator,
    Spawn,
    end,
    simulated,
    simulator,
    spawn,
)

REPLICAS = {"sqlite": 1, "postgresql": 3}
#: Seconds. Silence is suspicious soon.
POLL: Json = {
    "first_after": 2,
    "interval": 1,
    "max_interval": 2,
    "visibility_lag": 0.5,
    "lost_after": 5,
}
#: Seconds a process has to end in: more than it gives its work.
_END = 45.0
PROGRAM = "tests.chaos.program"

Environment = Callable[["Stage", Replica], Mapping[str, str]]


@dataclass
class Stage:
    """Everything of one run, for a fault to strike at."""

    sim: Simulator
    replicas: list[Replica]
    load: Load
    rng: random.Random
    #: In front of the replicas: a balancer that takes those who answer in turn. Callers and vendors come through it.
    front: Proxy
    #: In front of the vendors, and of the subscriber.
    vendors: Proxy
    subscriber: Proxy
    #: Between each replica and its database, if there is a network.
    lines: list[Proxy]
    #: PostgreSQL's, if the run is on it.
    server: Server | None
    database: str
    #: What the next process of a replica is given.
    environment: Environment
    #: How often the fault struck.
    hits: int = 0
    #: What was seen meanwhile that must not be.
    wrong: list[Finding] = field(default_factory=list)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    async def keep(self, replica: Replica) -> None:
        """Run a replica's processes, one after the other: what a supervisor does."""
        while not self._closing:
            await replica.start(**self.environment(self, replica))
            assert replica.child is not None
            code = await replica.child.wait()
            if code == -signal.SIGKILL:
                self.hits += 1
            elif not self._closing and code not in (0, -signal.SIGTERM):
                words = f"{replica.name} ended by itself: exit code {code}; see {replica.log}"
                self.wrong.append(Finding("wrong", words))

    async def ready(self, seconds: float = 30) -> None:
        """Wait until every replica serves. One that does not come writes into its log what it is at."""
        for replica in self.replicas:
            try:
                await eventually(
                    partial(self._serves, replica), f"{replica.name} is ready", seconds
                )
            except AssertionError:
                self.send(replica, signal.SIGUSR1)
                raise

    async def _serves(self, replica: Replica) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self.load.http.get(replica.url + "/readyz")).status_code == httpx.codes.OK
        return False

    def anyone(self) -> Replica:
        """Return a replica."""
        return self.rng.choice(self.replicas)

    def send(self, replica: Replica, how: signal.Signals) -> None:
        """Send a replica's process a signal, if there is one just now."""
        if replica.child is not None and replica.child.returncode is None:
            replica.child.send_signal(how)

    async def pause(self, least: float, most: float) -> bool:
        """Wait a moment; return whether the load still runs."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.loaded.wait(), self.rng.uniform(least, most))
        return not self.loaded.is_set()

    def calm(self) -> None:
        """Treat every new connection well."""
        for proxy in (self.front, self.vendors, self.subscriber, *self.lines):
            proxy.ways = ("straight",)

    async def close(self, how: signal.Signals) -> list[int]:
        """End the replicas and return their exit codes. Who does not end in time is killed, and that is its code."""
        self._closing = True
        running = [
            one.child
            for one in self.replicas
            if one.child is not None and one.child.returncode is None
        ]
        return [*await asyncio.gather(*(_ended(child, how) for child in running))]


async def _ended(child: Child, how: signal.Signals) -> int:
    try:
        async with asyncio.timeout(_END):
            return await end(child, how)
    except TimeoutError:
        return await end(child, signal.SIGKILL)


@dataclass(frozen=True)
class Means:
    """What runs share: PostgreSQL's server for those on it, and how processes are started."""

    server: Server | None = None
    spawn: Spawn = spawn


@dataclass(frozen=True)
class Size:
    """How much is submitted: so many orders, about so many a second."""

    orders: int = 60
    rate: float = 10.0
    accounts: tuple[str, ...] = ACCOUNTS
    #: Jobs of each account at its vendor at once.
    limit: int = 3
    #: Seconds. What a vendor neither pushes nor can be asked about ends then.
    deadline: float = 14.0


@dataclass(frozen=True)
class Plan:
    """What a stage is made of."""

    folder: Path
    seed: int
    means: Means
    size: Size
    world: Json
    leases: str
    environment: Environment
    remote: bool


@contextlib.asynccontextmanager
async def stage(plan: Plan) -> AsyncIterator[Stage]:
    """Set a stage up, its processes starting, until the end of the block."""
    rng, size, server, spawned = (
        random.Random(plan.seed),
        plan.size,
        plan.means.server,
        plan.means.spawn,
    )
    replicas: list[Replica] = []
    lines: list[Proxy] = []
    async with contextlib.AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            simulator(
                plan.folder, plan.world, seed=plan.seed, program="tests.chaos.world", start=spawned
            )
        )
        front = await stack.enter_async_context(Proxy(_turns(replicas), rng))
        vendors = await stack.enter_async_context(Proxy(_port(sim.urls["url"]), rng))
        subscriber = await stack.enter_async_context(Proxy(_port(sim.urls["hook"]), rng))
        headers = {"authorization": f"Bearer {KEY}"}
        client = httpx.AsyncClient(base_url=front.url, headers=headers, timeout=3)
        http = await stack.enter_async_context(client)
        database = server.create() if server else f"sqlite:///{plan.folder / 'jobs.db'}"
        accounts = simulated(
            vendors.url,
            {name: {"max_in_flight": size.limit, "poll": POLL} for name in size.accounts},
        )
        for number in range(REPLICAS["postgresql" if server else "sqlite"]):
            name = f"replica-{number}"
            address = database
            if server and plan.remote:
                lines.append(await stack.enter_async_context(Proxy(lambda: [server.port], rng)))
                address = server.beyond(lines[-1].port, database)
            replicas.append(
                Replica(plan.folder, accounts, PROGRAM, name, address, front.url, spawned)
            )
        load = Load(http, size.orders, size.rate, rng, size.deadline, size.accounts)
        it = Stage(
            sim,
            replicas,
            load,
            rng,
            front,
            vendors,
            subscriber,
            lines,
            server,
            database,
            _with(plan),
        )
        wardens = [asyncio.create_task(it.keep(one)) for one in replicas]
        try:
            yield it
        finally:
            await it.close(signal.SIGKILL)
            await asyncio.gather(*wardens)


def _with(plan: Plan) -> Environment:
    def environment(stage: Stage, replica: Replica) -> Mapping[str, str]:
        return {"CHAOS_LEASES": plan.leases, **plan.environment(stage, replica)}

    return environment


def _turns(replicas: list[Replica]) -> Callable[[], list[int]]:
    """Return what names all ports, a different one first each time."""

    turns = itertools.count()

    def ports() -> list[int]:
        first = next(turns) % len(replicas)
        return [one.port for one in replicas[first:] + replicas[:first]]

    return ports


def _port(url: str) -> Callable[[], list[int]]:
    port = httpx.URL(url).port
    assert port is not None
    return lambda: [port]
