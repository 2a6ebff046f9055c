"""The simulator and the service as processes that tests kill, pause and restart."""

from __future__ import annotations

import contextlib
import json
import random
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx

from orchestrator.simulator.accounts import account_settings
from tests.harness.api_caller import KEY, Json, eventually
from tests.harness.fork_server import fork
from tests.harness.live import listening


class Child(Protocol):
    """A process started by a test."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""

    def send_signal(self, signal: int) -> None:
        """Send a signal."""

    async def wait(self) -> int:
        """Return the exit code, once the process has ended."""


def free_port() -> int:
    """Return a free port, outside the range from which outgoing connections get theirs."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with contextlib.suppress(OSError), listening(random.randrange(10_000, lowest)) as sock:
            return int(sock.getsockname()[1])


@dataclass
class Simulator:
    """Vendors and a subscriber in a process that outlives the service."""

    urls: Json
    http: httpx.AsyncClient

    async def report(self) -> Json:
        """Return its report of renders, pushes and deliveries."""
        found: Json = (await self.http.get("/report")).raise_for_status().json()
        return found

    async def control(self, path: str, **body: Any) -> None:
        """Set a secret, a fault or a misbehaviour."""
        (await self.http.post(path, json=body)).raise_for_status()


@contextlib.asynccontextmanager
async def simulator(
    folder: Path,
    faults: Mapping[str, Any],
    *,
    seed: int = 1,
    program: str = "orchestrator.simulator",
) -> AsyncIterator[Simulator]:
    """Run the simulator until the end of the block."""
    ports = ("--port", "0", "--subscriber-port", "0")
    world = (
        "--seed",
        str(seed),
        "--render-seconds",
        "0.8",
        "--faults",
        json.dumps(faults),
        "--push-retries",
        "1",
    )
    out = folder / "simulator.json"
    child = await fork(program, *ports, *world, log=folder / "simulator.log", out=out)

    async def urls_printed() -> Json | None:
        text = out.read_text() if out.exists() else ""
        return dict(json.loads(text)) if text.endswith("\n") else None

    try:
        urls = await eventually(urls_printed, "the simulator is ready")
        async with httpx.AsyncClient(base_url=urls["control"], timeout=30, verify=False) as http:
            yield Simulator(urls, http)
    finally:
        await end(child, signal.SIGTERM)


async def end(child: Child, how: signal.Signals) -> int:
    """Send a process a signal and return its exit code."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(how)
    return await child.wait()


def simulated(world_url: str, accounts: Mapping[str, Json]) -> dict[str, Json]:
    """Return settings of accounts at the simulator behind a URL: name -> changed settings."""
    return {name: account_settings(world_url, name) | changed for name, changed in accounts.items()}


@dataclass
class Replica:
    """A service on one database and one port, one process at a time."""

    folder: Path
    accounts: Mapping[str, Json]
    program: str = "tests.harness.short_leases"
    #: Names its log, and tells replicas apart.
    name: str = "service"
    #: By default a file in the folder.
    database: str = ""
    #: The base of callback URLs; by default this process's URL.
    public_url: str = ""
    port: int = field(default_factory=free_port)
    child: Child | None = None

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = self.database or f"sqlite:///{self.folder / 'jobs.db'}"
        self.log = self.folder / f"{self.name}.log"

    @property
    def environment(self) -> dict[str, str]:
        """The settings of its processes, as variables."""
        return {
            "ORCHESTRATOR_PORT": str(self.port),
            "ORCHESTRATOR_PUBLIC_URL": self.public_url or self.url,
            "ORCHESTRATOR_DATABASE_URL": self.database,
            "ORCHESTRATOR_SECRET_KEYS": json.dumps(["k" * 40]),
            "ORCHESTRATOR_API_KEYS": json.dumps([KEY]),
            "ORCHESTRATOR_ALLOW_PRIVATE": '["127.0.0.0/8"]',
            "ORCHESTRATOR_ACCOUNTS": json.dumps(self.accounts),
            "ORCHESTRATOR_LOG_FORMAT": "json",
        }

    async def start(self, **more: str) -> None:
        """Start a process, with `more` in its environment. `ready` waits for it."""
        environment = self.environment | more
        self.child = await fork(self.program, "serve", log=self.log, environment=environment)

    async def ready(self, http: httpx.AsyncClient, seconds: float = 60) -> None:
        """Wait until it serves requests, for `seconds` at most."""

        async def answers() -> bool:
            assert self.child is not None
            assert self.child.returncode is None, f"the service ended: see {self.log}"
            with contextlib.suppress(httpx.TransportError):
                return (await http.get(self.url + "/readyz")).status_code == httpx.codes.OK
            return False

        await eventually(answers, f"{self.name} is ready", seconds)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        assert self.child is not None
        code, self.child = await end(self.child, how), None
        return code


@contextlib.asynccontextmanager
async def service(
    folder: Path,
    world: Simulator,
    accounts: Mapping[str, Json],
    program: str = "tests.harness.short_leases",
) -> AsyncIterator[Replica]:
    """Run the service on an SQLite file during the block. Kills it at the end if it still runs."""
    it = Replica(folder, simulated(world.urls["url"], accounts), program)
    await it.start()
    try:
        yield it
    finally:
        if it.child is not None:
            await it.stop(signal.SIGKILL)
