"""The whole service over real sockets: uvicorn in this event loop, SQLite in a folder, and the simulated world."""

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
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.simulator import SimulatedVendors, Subscriber
from orchestrator.simulator.accounts import account_settings
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS
from orchestrator.simulator.server import InLoopServer
from tests.harness import databases, runtime
from tests.harness.api_caller import KEY, Api, Json, until
from tests.harness.openapi_contract import CONTRACT_HOOKS

#: Silence is never suspicious while a test runs: what completes was pushed.
PATIENT: Json = {"first_after": 60, "visibility_lag": 0.2}
#: Silence is suspicious at once.
IMPATIENT: Json = {"first_after": 0.2, "interval": 0.2, "max_interval": 1, "visibility_lag": 0.2}


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what the write-ahead log has come to: every commit fails, for real.

    PostgreSQL's files are another process's: its database takes no writes instead.
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
    """Serve a runtime's application, its loops included, from here to the end of the block."""
    server = InLoopServer(
        uvicorn.Config(application(runtime), log_config=None, access_log=False, ws="none")
    )
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await until(lambda: server.started or task.done(), "the service starts")
        yield
    finally:
        runtime.feed.close()
        server.should_exit = True
        await task


@dataclass
class Live:
    """A running service and everything around it."""

    url: str
    runtime: Runtime
    api: Api
    world: SimulatedVendors
    subscriber: Subscriber
    #: Posts like a vendor would: no key.
    outside: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=20, event_hooks=CONTRACT_HOOKS)
    )

    async def hears(self, job_id: str, kind: str = "job.succeeded") -> None:
        """Wait until the subscriber has been told that."""
        await until(
            lambda: any(one.job == job_id and one.type == kind for one in self.subscriber.received),
            f"the subscriber hears {kind} of {job_id}",
        )

    def types(self, job_id: str) -> list[str]:
        """Return the event types the subscriber heard of a job, each once, in order of their events."""
        return list(dict.fromkeys(one.type for one in self.heard(job_id)))

    def heard(self, job_id: str) -> list[Any]:
        """Return the deliveries about a job in the order of their events, which is that of their ids."""
        return sorted(
            (one for one in self.subscriber.received if one.job == job_id),
            key=lambda one: one.webhook_id,
        )


def settings(
    folder: Path, world: SimulatedVendors, url: str, accounts: Mapping[str, Json]
) -> Settings:
    """Return settings for simulated accounts (name -> what differs from the simulator's own settings)."""
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
    """Run the service over a world and a subscriber that outlive it."""
    runtime = build(given)
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        serving(runtime, sock),
        httpx.AsyncClient(
            base_url=given.public_url, headers=headers, timeout=30, event_hooks=CONTRACT_HOOKS
        ) as http,
    ):
        it = Live(given.public_url, runtime, Api(http), world, subscriber)
        async with it.outside:
            yield it


@contextlib.asynccontextmanager
async def live(
    folder: Path, accounts: Mapping[str, Json] | Sequence[str] = ("kling",), **world: Any
) -> AsyncIterator[Live]:
    """Run everything: `accounts` by name (with what differs in their settings), `world` as `SimulatedVendors` takes it.

    The subscriber hears everything about jobs and accounts, and verifies it.
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


class _Behind(SystemClock):
    """The machine's clock, four minutes ago: longer than any claim lasts, shorter than signatures may be old."""

    def now(self) -> datetime:
        return after(super().now(), -240)


@dataclass
class Lives:
    """The processes of one service, one after the other, at one address and on one database."""

    world: SimulatedVendors
    subscriber: Subscriber
    settings: Settings

    @contextlib.asynccontextmanager
    async def half_way(self) -> AsyncIterator[tuple[Runtime, Api]]:
        """A process that will die: it takes calls, and its stages go as far as a test takes them.

        What it claims has run out by the time it is gone.
        """
        runtime = build(self.settings, clock=_Behind())
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

    def next(self) -> contextlib.AbstractAsyncContextManager[Live]:
        """A process that lives."""
        sock = listening(int(self.settings.public_url.rpartition(":")[2]))
        return service(self.settings, self.world, self.subscriber, sock)


@contextlib.asynccontextmanager
async def lives(folder: Path, accounts: Mapping[str, Json], **world: Any) -> AsyncIterator[Lives]:
    """A world and a subscriber that outlive the processes of a service."""
    with listening() as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with (
        SimulatedVendors(**{"render_seconds": 0.1, **world}) as vendors,
        Subscriber() as subscriber,
    ):
        yield Lives(vendors, subscriber, settings(folder, vendors, url, accounts))


def order(account: str, **more: Any) -> Json:
    """Return a submit body that the simulated account takes."""
    body = next(body for name, _, body in SAMPLE_JOBS if name == account)
    return {**body, **more}
