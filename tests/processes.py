"""The simulator and the service as processes of their own, to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orchestrator.simulator.accounts import account_settings
from tests.caller import KEY, Json, eventually
from tests.live import listening

ROOT = Path(__file__).parent.parent


async def _spawn(log: Path, *words: str, speaks: bool = False, **environment: str) -> asyncio.subprocess.Process:
    """Start `python -m words`; what it says goes to a file, except on the stdout of one that `speaks` to us."""
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", *words, cwd=ROOT, env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE if speaks else file, stderr=file,
        )  # fmt: skip


@dataclass
class Simulator:
    """Vendors and a subscriber in a process that survives."""

    urls: Json
    http: httpx.AsyncClient

    async def report(self) -> Json:
        """Return what it knows of renders, pushes and deliveries."""
        found: Json = (await self.http.get("/report")).raise_for_status().json()
        return found

    async def tell(self, path: str, **body: Any) -> None:
        """Tell it a secret, a fault or a misbehaviour."""
        (await self.http.post(path, json=body)).raise_for_status()


@contextlib.asynccontextmanager
async def simulator(folder: Path, faults: Mapping[str, Any], *, seed: int = 1) -> AsyncIterator[Simulator]:
    """Run the simulator until the end of the block."""
    ports = ("--port", "0", "--subscriber-port", "0")
    world = ("--seed", str(seed), "--render-seconds", "0.8", "--faults", json.dumps(faults), "--push-retries", "1")
    child = await _spawn(folder / "simulator.log", "orchestrator.simulator", *ports, *world, speaks=True)
    try:
        assert child.stdout is not None
        urls = json.loads(await child.stdout.readline())
        async with httpx.AsyncClient(base_url=urls["control"], timeout=30) as http:
            yield Simulator(urls, http)
    finally:
        await end(child, signal.SIGTERM)


async def end(child: asyncio.subprocess.Process, how: signal.Signals) -> int:
    """Send a process a signal and return its exit code."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(how)
    return await child.wait()


@dataclass
class Service:
    """The program (`tests.hasty` or the product itself) on one file and one port, one process after the other."""

    folder: Path
    simulator: Simulator
    accounts: Mapping[str, Json]
    program: str = "tests.hasty"
    port: int = field(init=False)
    child: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        with listening() as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = self.folder / "jobs.db"

    async def start(self) -> None:
        """Start a process. It is ready some time later."""
        accounts = {
            name: account_settings(self.simulator.urls["url"], name) | changed
            for name, changed in self.accounts.items()
        }
        self.child = await _spawn(
            self.folder / "service.log",
            self.program,
            "serve",
            ORCHESTRATOR_PORT=str(self.port),
            ORCHESTRATOR_PUBLIC_URL=self.url,
            ORCHESTRATOR_DATABASE_URL=f"sqlite:///{self.database}",
            ORCHESTRATOR_API_KEYS=json.dumps([KEY]),
            ORCHESTRATOR_ALLOW_PRIVATE='["127.0.0.0/8"]',
            ORCHESTRATOR_ACCOUNTS=json.dumps(accounts),
            ORCHESTRATOR_LOG_FORMAT="json",
        )

    async def ready(self, http: httpx.AsyncClient) -> None:
        """Wait until it serves."""

        async def answers() -> bool:
            assert self.child is not None
            assert self.child.returncode is None, f"the service ended: see {self.folder / 'service.log'}"
            with contextlib.suppress(httpx.TransportError):
                return (await http.get(self.url + "/readyz")).status_code == httpx.codes.OK
            return False

        await eventually(answers, "the service is ready")

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        assert self.child is not None
        code, self.child = await end(self.child, how), None
        return code


@contextlib.asynccontextmanager
async def service(
    folder: Path, simulated: Simulator, accounts: Mapping[str, Json], program: str = "tests.hasty"
) -> AsyncIterator[Service]:
    """Run the service until the end of the block, whatever becomes of it."""
    it = Service(folder, simulated, accounts, program)
    await it.start()
    try:
        yield it
    finally:
        if it.child is not None:
            await it.stop(signal.SIGKILL)
