"""Clients that send hostile input to a real service, its memory by quarter, and the table."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from orchestrator.simulator.accounts import SIMULATED
from tests.attack.arena import PROGRAM
from tests.attack.documents import DENSE, dense_job
from tests.attack.origin import origin
from tests.harness.api_caller import KEY, Json
from tests.harness.processes import Replica, simulated
from tests.hostile.connection import Connection, Request
from tests.hostile.operations import Known, draw
from tests.hostile.peers import hostile

_CLIENTS = 16
#: Dense documents of a kind that are sent at once (0.4 s of the service's CPU each), and seconds
#: to wait for their answers.
_DENSE_AT_ONCE = 8
_PATIENCE = 120
#: Growth of memory between the end of a quarter and of the next but one.
_GROWTH = 1.05
_QUARTERS = 4
_IDS = re.compile(rb'"id": ?"((job|evt|sub|dlv|rpl|key)_\w{26})"')
_FAULTS = frozenset({500, 501, 504, 505})
_POLL: Json = {"first_after": 30, "interval": 30, "visibility_lag": 1, "lost_after": 20}


@dataclass
class Result:
    """What came of a run."""

    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    #: A line for each input that was answered with a 500, or not at all.
    faults: list[str] = field(default_factory=list)
    #: MB at the end of each quarter.
    memory: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    logged: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    #: CPU seconds of the service.
    cpu: float = 0.0

    @property
    def growth(self) -> float:
        """The memory at the end relative to that two quarters before."""
        return self.memory[-1] / self.memory[-3]

    @property
    def is_settled(self) -> bool:
        """True if memory need not be looked at any longer.

        A rare peak raises it once: two further quarters show whether that was a leak.
        """
        count = len(self.memory)
        return count >= 2 * _QUARTERS or (count >= _QUARTERS and self.growth <= _GROWTH)

    @property
    def held(self) -> bool:
        """True if every input was answered, none with a 500, in bounded memory."""
        return not self.faults and not self.logged and self.growth <= _GROWTH


@dataclass
class Client:
    """One connection, and its own random numbers."""

    rng: random.Random
    connection: Connection
    known: Known
    result: Result

    async def send(self, count: int) -> None:
        """Send so many inputs."""
        for _ in range(count):
            request = draw(self.rng, self.known)
            try:
                status, body = await self.connection.exchange(request)
            except TimeoutError:
                self.connection.close()
                self._fault(request, "no answer in time")
                continue
            self.result.statuses[request.operation][status] += 1
            if status in _FAULTS or (status == 0 and not request.malformed):
                self._fault(request, f"{status or 'closed'}")
            if status < 300:
                for found in _IDS.findall(body[:20_000])[:3]:
                    self.known.learn(found[1].decode(), found[0].decode())

    def _fault(self, request: Request, what: str) -> None:
        self.result.faults.append(f"{what}: {request.operation}: {request.data[-300:]!r}")


def service(folder: Path, peer: str) -> Replica:
    """Return a service with an account of each dialect at the hostile vendor."""
    unsigned = {"signature": "none", "webhook_secrets": []}
    changed = {"max_in_flight": 10_000, "poll": _POLL}
    accounts = {name: changed for name, _ in SIMULATED}
    accounts["kling"] = changed | unsigned
    accounts["kling_new"] = changed | {"signature": "optional"}
    return Replica(folder, simulated(peer, accounts), PROGRAM)


async def run(inputs: int, seed: int, *, dense_at_once: int = _DENSE_AT_ONCE) -> Result:
    """Send hostile input to a new service, dense documents of each kind first."""
    result, started = Result(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        async with origin() as peer, _client() as http:
            known = Known(KEY, peer.url, [name for name, _ in SIMULATED])
            peer.answer = hostile(random.Random(seed), known, result.answers)
            # Requests are not kept: memory of this process is not to grow either.
            peer.keep = False
            replica = service(folder, peer.url)
            await replica.start(ORCHESTRATOR_API_RATE_LIMIT="0")
            try:
                await replica.ready(http)
                await _dense(http, replica.port, dense_at_once)
                await _quarters(replica, known, result, inputs, seed)
            finally:
                code = await replica.stop(signal.SIGTERM)
            if code not in (0, -signal.SIGTERM):
                result.faults.append(f"the service exited with {code}")
            result.logged = _errors(replica.log)
    result.seconds = time.monotonic() - started
    return result


def _client() -> httpx.AsyncClient:
    # Many documents at once may take a busy machine longer than the default of 5 s.
    return httpx.AsyncClient(trust_env=False, timeout=_PATIENCE)


async def _dense(http: httpx.AsyncClient, port: int, at_once: int) -> None:
    """Send the documents that take the most memory, before memory is compared.

    Python keeps the arenas that its small objects once filled: a rare peak would look like a leak.
    """
    url, headers = f"http://127.0.0.1:{port}/v1/jobs", {"authorization": f"Bearer {KEY}"}
    for kind in DENSE:
        body = dense_job(kind).replace(b'"main"', b'"kling"', 1)
        await asyncio.gather(
            *(http.post(url, content=body, headers=headers) for _ in range(at_once))
        )


async def _quarters(replica: Replica, known: Known, result: Result, inputs: int, seed: int) -> None:
    clients = [
        Client(random.Random(seed * 1000 + number), Connection(replica.port), known, result)
        for number in range(_CLIENTS)
    ]
    assert replica.child is not None
    while not result.is_settled:
        share = inputs // (_QUARTERS * _CLIENTS)
        watch = asyncio.create_task(_watched(replica.child.pid))
        await asyncio.gather(*(client.send(share) for client in clients))
        watch.cancel()
        samples = await watch
        # Its last tenth: what stays, without the beginning of the quarter.
        result.memory.append(statistics.median(samples[-max(1, len(samples) // 10) :]))
    result.cpu = _cpu(replica.child.pid)
    for client in clients:
        client.connection.close()


async def _watched(pid: int) -> list[float]:
    """Return samples of a process's memory in MB, until canceled."""
    samples = [_rss(pid)]
    try:
        while True:
            await asyncio.sleep(0.2)
            samples.append(_rss(pid))
    except asyncio.CancelledError:
        return samples


def _rss(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _cpu(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _errors(log: Path) -> Counter[str]:
    """Return the entries of the log that no input may cause."""
    found: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry.get("level") in ("error", "critical"):
                last = str(entry.get("exception", "")).strip().rpartition("\n")[2]
                found[f"{entry.get('event')} {last}".strip()[:200]] += 1
    return found


def show(result: Result) -> None:
    """Print inputs and statuses by operation, memory by quarter, and faults."""
    total = 0
    for operation, counts in sorted(result.statuses.items()):
        total += counts.total()
        statuses = " ".join(f"{status or 'closed'}:{n}" for status, n in sorted(counts.items()))
        print(f"{operation:32} {counts.total():7}  {statuses}")
    for name, count in result.answers.items():
        print(f"{name:32} {count:7}")
    memory = " ".join(f"{each:.1f}" for each in result.memory)
    rate = total / result.seconds
    print(
        f"{total} inputs in {result.seconds:.0f} s, {rate:.0f}/s, CPU of the service"
        f" {result.cpu:.0f} s; {len(result.faults)} faults"
    )
    print(f"memory by quarter, MB: {memory} ({result.growth - 1:+.1%} in the last two)")
    for fault in result.faults[:20]:
        print(f"  ! {fault}")
    for error, count in result.logged.most_common(10):
        print(f"  ! logged {count} times: {error}")
