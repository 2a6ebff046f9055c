"""The test bed of a run: simulated vendors, replicas, database, and proxies between them."""

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
from tests.chaos.postgres_server import Server
from tests.chaos.proxy import Proxy
from tests.harness.api_caller import KEY, eventually
from tests.harness.audit import Finding, Json
from tests.harness.processes import Child, Replica, Simulator, end, simulated, simulator

REPLICAS = {"sqlite": 1, "postgresql": 3}
#: Seconds. Jobs are polled soon after a missing push.
POLL: Json = {
    "first_after": 2,
    "interval": 1,
    "max_interval": 2,
    "visibility_lag": 0.5,
    "lost_after": 5,
}
#: Seconds for a process to exit: more than its drain timeout.
_END = 45.0
PROGRAM = "tests.chaos.service"

Environment = Callable[["Testbed", Replica], Mapping[str, str]]


@dataclass
class Testbed:
    """All parts of one run that a fault can disturb."""

    sim: Simulator
    replicas: list[Replica]
    load: Load
    rng: random.Random
    #: Load balancer in front of the replicas, for callers and vendors.
    front: Proxy
    #: In front of the vendors, and of the subscriber.
    vendors: Proxy
    subscriber: Proxy
    #: Between each replica and its database, if the fault is remote.
    lines: list[Proxy]
    #: The PostgreSQL server, if the run uses it.
    server: Server | None
    database: str
    #: Environment variables of the next process of a replica.
    environment: Environment
    #: Number of times the fault occurred.
    hits: int = 0
    #: Violations observed during the run.
    wrong: list[Finding] = field(default_factory=list)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    async def supervise(self, replica: Replica) -> None:
        """Restart a replica whenever it exits, as a supervisor does."""
        while not self._closing:
            await replica.start(**self.environment(self, replica))
            assert replica.child is not None
            code = await replica.child.wait()
            if code == -signal.SIGKILL:
                self.hits += 1
            elif not self._closing and code not in (0, -signal.SIGTERM):
                text = f"{replica.name} exited with {code}; see {replica.log}"
                self.wrong.append(Finding("wrong", text))

    async def ready(self, seconds: float = 30) -> None:
        """Wait until every replica is ready.

        One that does not become ready dumps its stacks into its log.
        """
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

    def any_replica(self) -> Replica:
        """Return a random replica."""
        return self.rng.choice(self.replicas)

    def send(self, replica: Replica, how: signal.Signals) -> None:
        """Send a signal to the process of a replica, if it runs."""
        if replica.child is not None and replica.child.returncode is None:
            replica.child.send_signal(how)

    async def pause(self, least: float, most: float) -> bool:
        """Wait a random time. Return True while the load runs."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.loaded.wait(), self.rng.uniform(least, most))
        return not self.loaded.is_set()

    def calm(self) -> None:
        """Stop disturbing new connections."""
        for proxy in (self.front, self.vendors, self.subscriber, *self.lines):
            proxy.modes = ("forward",)

    async def close(self, how: signal.Signals) -> list[int]:
        """End the replicas and return their exit codes.

        A process that exceeds its time is killed.
        """
        self._closing = True
        running = [
            replica.child
            for replica in self.replicas
            if replica.child is not None and replica.child.returncode is None
        ]
        return [*await asyncio.gather(*(_ended(child, how) for child in running))]


async def _ended(child: Child, how: signal.Signals) -> int:
    try:
        async with asyncio.timeout(_END):
            return await end(child, how)
    except TimeoutError:
        return await end(child, signal.SIGKILL)


@dataclass(frozen=True)
class Size:
    """The size of the load: orders and orders per second."""

    orders: int = 60
    rate: float = 10.0
    accounts: tuple[str, ...] = ACCOUNTS
    #: Jobs of an account in flight.
    limit: int = 3
    #: Seconds after which a job expires that its vendor neither pushes nor can look up.
    deadline: float = 14.0


@dataclass(frozen=True)
class Plan:
    """The parameters of a test bed."""

    folder: Path
    seed: int
    #: The PostgreSQL server, or None for SQLite.
    server: Server | None
    size: Size
    world: Json
    leases: str
    environment: Environment
    remote: bool


@contextlib.asynccontextmanager
async def testbed(plan: Plan) -> AsyncIterator[Testbed]:
    """Run a test bed until the end of the block. Its processes may still be starting."""
    rng, size, server = random.Random(plan.seed), plan.size, plan.server
    replicas: list[Replica] = []
    lines: list[Proxy] = []
    async with contextlib.AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            simulator(plan.folder, plan.world, seed=plan.seed, program="tests.chaos.simulator")
        )
        front = await stack.enter_async_context(Proxy(_round_robin(replicas), rng))
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
                address = server.url_through(lines[-1].port, database)
            replicas.append(Replica(plan.folder, accounts, PROGRAM, name, address, front.url))
        load = Load(http, size.orders, size.rate, rng, size.deadline, size.accounts)
        bed = Testbed(
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
        supervisors = [asyncio.create_task(bed.supervise(replica)) for replica in replicas]
        try:
            yield bed
        finally:
            await bed.close(signal.SIGKILL)
            await asyncio.gather(*supervisors)


def _with(plan: Plan) -> Environment:
    def environment(testbed: Testbed, replica: Replica) -> Mapping[str, str]:
        return {"CHAOS_LEASES": plan.leases, **plan.environment(testbed, replica)}

    return environment


def _round_robin(replicas: list[Replica]) -> Callable[[], list[int]]:
    """Return a function that returns all ports, rotated at each call."""

    turns = itertools.count()

    def ports() -> list[int]:
        first = next(turns) % len(replicas)
        return [replica.port for replica in replicas[first:] + replicas[:first]]

    return ports


def _port(url: str) -> Callable[[], list[int]]:
    port = httpx.URL(url).port
    assert port is not None
    return lambda: [port]
