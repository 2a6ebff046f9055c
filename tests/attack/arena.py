"""One service with a scripted vendor and a caller, and an observer while it is attacked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from tests.attack.attack import Report
from tests.attack.origin import Asked, Origin, dreamto, origin
from tests.harness.api_caller import KEY, Api, Json, eventually, until
from tests.harness.fork_server import ROOT
from tests.harness.processes import Child, Replica

_OBSERVER = Path(__file__).with_name("observer.py")
#: Bytes. The observer ends a service that needs more, for the sake of the machine.
_MEMORY = 1536 << 20
#: Bytes of address space, for attacks that nothing observes.
_ADDRESSES = 4 << 30
#: Seconds of silence before a status query: none comes unless an attack causes it.
_POLL: Json = {"first_after": 60, "interval": 60, "visibility_lag": 0.2}
VENDOR_KEY = "vendor-key-0123456789"
PROGRAM = "tests.attack.service"


@dataclass
class Observer:
    """The process that watches a service."""

    process: asyncio.subprocess.Process

    async def figures(self) -> Json:
        """Return the figures since the last call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        return dict(json.loads(await self.process.stdout.readline()))


@dataclass
class Arena:
    """A service that is attacked."""

    folder: Path
    service: Replica
    vendor: Origin
    api: Api
    report: Report

    @property
    def url(self) -> str:
        """Its address."""
        return self.service.url

    @property
    def port(self) -> int:
        """Its port on loopback."""
        return self.service.port

    @property
    def child(self) -> Child:
        """Its process."""
        assert self.service.child is not None
        return self.service.child

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.service.log.read_text(errors="replace")

    async def key(self, scope: str) -> str:
        """Create a key."""
        answer = await self.api.call("POST", "/v1/keys", {"name": scope, "scope": scope})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def submit(self, **more: Any) -> Json:
        """Submit a job."""
        body = {"account": "main", "model": "m", "input": {"prompt": "p"}, **more}
        return await self.api.submit(body)

    async def taken(self, job_id: str) -> str:
        """Return the callback URL of a job, once its vendor has it and the service knows."""

        async def submitted() -> bool:
            return (await self.api.job(job_id))["vendor_task_id"] is not None

        await eventually(submitted, f"{job_id} is submitted")
        return self.callback(job_id)

    def callback(self, job_id: str) -> str:
        """Return the callback URL that the vendor got with a job."""
        return str(self._order(job_id).json["input"]["callback_url"])

    def callback_path(self, job_id: str) -> str:
        """Return the path of it."""
        return self.callback(job_id).removeprefix(self.url)

    def _order(self, job_id: str) -> Asked:
        return next(
            each
            for each in self.vendor.asked
            if each.method == "POST" and job_id.encode() in each.body
        )

    async def event(self, **more: Any) -> Json:
        """Cause the final event of a job, and return the job."""
        job = await self.submit(**more)
        answer = await self.api.call("POST", f"/v1/jobs/{job['id']}/cancel")
        assert answer.status_code == 200, answer.text
        return job

    async def delivered(self, event_type: str = "", seconds: float = 15) -> list[Json]:
        """Return the deliveries, once there are some and none is pending."""

        async def over() -> list[Json] | None:
            found: list[Json] = (await self.api.get("/v1/deliveries?limit=200"))["data"]
            found = [each for each in found if each["event_type"].startswith(event_type)]
            return found if found and all(each["done_at"] for each in found) else None

        return await eventually(over, "everything is delivered", seconds)

    @contextlib.asynccontextmanager
    async def observed(
        self, *, memory: float = 150, latency: float = 1.5, others: int = 0
    ) -> AsyncIterator[Observer]:
        """Check during the block: memory in MB above idle, seconds of latency, failed calls."""
        key = await self.key("write")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", str(_OBSERVER), str(self.child.pid), self.url, key, str(_MEMORY),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        try:
            observer = Observer(process)
            await asyncio.sleep(1.0)
            await observer.figures()
            yield observer
        finally:
            figures = await observer.figures()
            process.kill()
            await process.wait()
            self._record(figures, memory, latency, others)

    def _record(self, figures: Json, memory: float, latency: float, others: int) -> None:
        failures = figures["failures"]
        self.report.at_most("MB above idle", figures["peak"] - figures["idle"], memory)
        self.report.at_most("/healthz s", figures["latency"], latency)
        self.report.at_most("others failed", len(failures), others)
        if len(failures) > others:
            self.report.broken.append(f"of {figures['calls']} calls: {', '.join(failures[:3])}")
        self.report.check(not figures["killed"], f"killed at {_MEMORY >> 20} MB")

    async def lives(self) -> None:
        """Check that the service is ready, and has not ended."""
        if (code := self.child.returncode) is not None:
            self.report.broken.append(f"the service ended with {code}")
            return
        with contextlib.suppress(httpx.HTTPError):
            if (await self.api.call("GET", "/readyz")).status_code == httpx.codes.OK:
                return
        self.report.broken.append("the service is not ready afterwards")


def settings(vendor: Origin) -> Mapping[str, Json]:
    """Return accounts at the scripted vendor."""
    account = {"vendor": "dreamto", "base_url": vendor.url, "api_key": VENDOR_KEY}
    return {"main": {**account, "max_in_flight": 5000, "poll": _POLL}}


@contextlib.asynccontextmanager
async def arena(
    folder: Path, report: Report, environment: Mapping[str, str], *, start: bool = True
) -> AsyncIterator[Arena]:
    """Run a service during the block, and kill it at the end. Without `start` it is stopped."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with origin(dreamto()) as vendor:
        service = Replica(folder, settings(vendor), PROGRAM)
        async with httpx.AsyncClient(
            base_url=service.url, headers=headers, timeout=30, trust_env=False
        ) as http:
            it = Arena(folder, service, vendor, Api(http), report)
            try:
                if start:
                    await service.start(ATTACK_MEMORY=str(_ADDRESSES), **environment)
                    await service.ready(http)
                yield it
            finally:
                if service.child is not None:
                    await service.stop(signal.SIGKILL)


async def start_anew(service: Replica, *prefix: str, stderr: int | IO[bytes]) -> None:
    """Start a service in a new interpreter, behind the words of `prefix`, with this log."""
    service.child = await asyncio.create_subprocess_exec(
        *prefix, sys.executable, "-m", service.program, "serve",
        cwd=ROOT, env={**os.environ, **service.environment, "ATTACK_MEMORY": str(_ADDRESSES)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=stderr,
    )  # fmt: skip


async def stopped(child: Child, how: signal.Signals, seconds: float = 25) -> float | None:
    """Send a signal and return the seconds until the process has ended; None if it has not."""
    begun = asyncio.get_running_loop().time()
    child.send_signal(how)
    with contextlib.suppress(AssertionError):
        await until(lambda: child.returncode is not None, seconds=seconds)
        return asyncio.get_running_loop().time() - begun
    return None
