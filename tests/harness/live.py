"""The whole service over real sockets, in this event loop: uvicorn, a database, the simulator.

* `live`: a service, simulated vendors and a subscriber, ready for calls.
* `restartable`: the same, where the service is stopped or abandoned, and started again.
* `service`, `serving`: the parts, for tests that bring their own settings or runtime.

For kill -9 and signals use `tests.harness.processes`; for a stage alone `tests.harness.runtime`.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from orchestrator.app import application, build
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.clock import SystemClock, after
from orchestrator.foundation.settings import Settings
from orchestrator.ingress import http_protocol
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.simulator import SimulatedVendors, Subscriber
from orchestrator.simulator.accounts import account_settings
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from orchestrator.simulator.server import InLoopServer
from orchestrator.simulator.subscriber import Received
from tests.harness import databases, runtime
from tests.harness.api_caller import KEY, Api, Json, until
from tests.harness.openapi_contract import CONTRACT_HOOKS
from tests.harness.quick_ticks import quick_ticks

#: No poll becomes due during a test: a completion came by push.
PATIENT: Json = {"first_after": 60, "visibility_lag": 0.2}
#: A poll is due at once after a missed push.
IMPATIENT: Json = {"first_after": 0.1, "interval": 0.1, "max_interval": 1, "visibility_lag": 0.2}


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Limit the size of this process's files to that of the write-ahead log: every commit fails.

    PostgreSQL's files belong to another process: its database becomes read-only instead.
    """
    if databases.kind == "postgresql":
        with databases.read_only(databases.at(folder)):
            yield
        return
    size = (folder / "test.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def listening(port: int = 0) -> socket.socket:
    """Return a bound socket on loopback, as `serve` makes it; port 0 picks a free one."""
    sock = socket.create_server(("127.0.0.1", port), backlog=512)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextlib.asynccontextmanager
async def serving(runtime: Runtime, sock: socket.socket) -> AsyncIterator[None]:
    """Serve a runtime's application, with its workers, during the block."""
    server = InLoopServer(
        uvicorn.Config(
            application(runtime),
            http=http_protocol(runtime.settings.http),
            ws="none",
            access_log=False,
            log_config=None,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        with quick_ticks():
            await until(lambda: server.started or task.done(), "the service starts")
        yield
    finally:
        runtime.feed.close()
        server.should_exit = True
        await task


@dataclass
class Live:
    """A running service, its simulated vendors, and a subscriber."""

    url: str
    runtime: Runtime
    api: Api
    world: SimulatedVendors
    subscriber: Subscriber
    #: Sends requests as a vendor does, without an API key.
    outside: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(
            timeout=20, event_hooks=CONTRACT_HOOKS, verify=False
        )
    )

    async def delivered(self, job_id: str, kind: str = "job.succeeded") -> None:
        """Wait until the subscriber has received an event of this type about a job."""
        await until(
            lambda: any(each.type == kind for each in self.deliveries(job_id)),
            f"the subscriber receives {kind} of {job_id}",
        )

    def types(self, job_id: str) -> list[str]:
        """Return the event types received about a job, without repeats, in order of events."""
        return list(dict.fromkeys(each.type for each in self.deliveries(job_id)))

    def deliveries(self, job_id: str) -> list[Received]:
        """Return the deliveries about a job in the order of their events, that is of their ids."""
        return sorted(
            (each for each in self.subscriber.received if each.job == job_id),
            key=lambda each: each.webhook_id,
        )


def settings(
    folder: Path, world: SimulatedVendors, url: str, accounts: Mapping[str, Json]
) -> Settings:
    """Return settings for simulated accounts: name -> changes to the simulator's settings."""
    return runtime.settings(
        folder,
        public_url=url,
        api_keys=[KEY],
        allow_private=["127.0.0.0/8"],
        accounts={
            name: account_settings(world.base_url, name)
            | {"max_in_flight": 50, "poll": PATIENT}
            | changed
            for name, changed in accounts.items()
        },
    )


@contextlib.asynccontextmanager
async def service(
    given: Settings, world: SimulatedVendors, subscriber: Subscriber, sock: socket.socket
) -> AsyncIterator[Live]:
    """Run the service during the block, over vendors and a subscriber that outlive it."""
    runtime = build(given)
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        serving(runtime, sock),
        httpx.AsyncClient(
            base_url=given.public_url,
            headers=headers,
            timeout=30,
            event_hooks=CONTRACT_HOOKS,
            verify=False,
        ) as http,
    ):
        it = Live(given.public_url, runtime, Api(http), world, subscriber)
        async with it.outside:
            yield it


@contextlib.asynccontextmanager
async def live(
    folder: Path, accounts: Mapping[str, Json] | Sequence[str] = ("kling",), **world: Any
) -> AsyncIterator[Live]:
    """Run service, vendors and subscriber during the block.

    `accounts` are names, or name -> changed settings; `world` are arguments of `SimulatedVendors`.
    The subscriber gets all events about jobs and accounts, and verifies their signatures.
    """
    named = accounts if isinstance(accounts, Mapping) else {name: {} for name in accounts}
    sock = listening()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with (
        SimulatedVendors(**{"render_seconds": 0.1, **world}) as vendors,
        Subscriber() as subscriber,
        service(settings(folder, vendors, url, named), vendors, subscriber, sock) as it,
    ):
        made = await it.api.subscribe(subscriber.url, "job.*", "account.*", max_in_flight=64)
        subscriber.secrets.append(made["secret"])
        yield it


class _SlowClock(SystemClock):
    """Four minutes behind: longer than any lease, shorter than the tolerance of signatures."""

    def now(self) -> datetime:
        return after(super().now(), -240)


@dataclass
class Restartable:
    """A service whose processes follow each other, at one address and on one database."""

    world: SimulatedVendors
    subscriber: Subscriber
    settings: Settings

    @contextlib.asynccontextmanager
    async def abandoned(self) -> AsyncIterator[tuple[Runtime, Api]]:
        """A process that dies with the block: it serves calls, and a test drives its stages.

        Its clock is behind, so its leases have expired when the next process starts.
        """
        runtime = build(self.settings, clock=_SlowClock())
        transport = httpx.ASGITransport(application(runtime))
        headers = {"authorization": f"Bearer {KEY}"}
        runtime.store.start()
        try:
            await runtime.store.write(ensure_accounts, sorted(runtime.vendors))
            async with httpx.AsyncClient(
                base_url=self.settings.public_url,
                headers=headers,
                transport=transport,
                event_hooks=CONTRACT_HOOKS,
            ) as http:
                yield runtime, Api(http)
        finally:
            await runtime.submission_client.aclose()
            await runtime.http_client.aclose()
            runtime.store.close()

    def started(self) -> contextlib.AbstractAsyncContextManager[Live]:
        """Start a process that does all its work."""
        sock = listening(int(self.settings.public_url.rpartition(":")[2]))
        return service(self.settings, self.world, self.subscriber, sock)


@contextlib.asynccontextmanager
async def restartable(
    folder: Path, accounts: Mapping[str, Json], **world: Any
) -> AsyncIterator[Restartable]:
    """Vendors and a subscriber that outlive the processes of a service."""
    with listening() as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with (
        SimulatedVendors(**{"render_seconds": 0.1, **world}) as vendors,
        Subscriber() as subscriber,
    ):
        yield Restartable(vendors, subscriber, settings(folder, vendors, url, accounts))


def order(account: str, **more: Any) -> Json:
    """Return a submission body that the simulated account accepts."""
    body = next(body for name, _, body in SAMPLE_JOBS if name == account)
    return {**body, **more}
