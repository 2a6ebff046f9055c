"""Load: requests back to back or at a fixed rate, and whole jobs."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import uvloop

from orchestrator.cli.bench.measurement import MeasurementFailed, Sample
from orchestrator.cli.bench.raw_http import (
    ClientConnection,
    ServerConnection,
    connect,
    port_of,
    request,
    response,
)
from orchestrator.cli.bench.service import AUTHORIZATION
from orchestrator.cli.bench.stub_subscriber import Arrival, parse_delivery
from orchestrator.foundation.json_codec import encode

#: Concurrent callers that submit jobs, and jobs between submission and delivery.
CALLERS = 16
IN_FLIGHT = 256
#: Seconds without progress after which a measurement has failed.
PATIENCE = 30.0
_OK = response()
_INPUT = {"prompt": "A cinematic shot of a futuristic city", "duration": 5}


async def drive(
    port: int, requests: Sequence[bytes], connections: int, seconds: float = math.inf
) -> tuple[Sample, dict[int, float]]:
    """Send requests back to back on every connection, for `seconds` or until none is left.

    Every connection sends at least one. Returns the requests answered 2xx (the latencies are of
    all), and their indexes with when each was answered (wall clock). Raises `MeasurementFailed` if
    there are none.
    """
    acknowledged, latencies, statuses = dict[int, float](), list[float](), Counter[int]()
    queue = iter(enumerate(requests))
    opened = [await connect(port) for _ in range(connections)]
    started = time.perf_counter()

    async def send_all(connection: ClientConnection) -> None:
        for index, message in queue:
            sent = time.perf_counter()
            status, _ = await connection.send(message)
            now = time.perf_counter()
            statuses[status] += 1
            latencies.append(now - sent)
            if status < 300:
                acknowledged[index] = time.time()
            if now >= started + seconds:
                break
        connection.transport.close()

    await asyncio.gather(*map(send_all, opened))
    if not acknowledged:
        raise MeasurementFailed(f"nothing was acknowledged: {dict(statuses) or 'no answers'}")
    count = len(acknowledged)
    return Sample(count, count / (time.perf_counter() - started), latencies), acknowledged


async def pace(port: int, requests: Sequence[bytes], interval: float) -> list[tuple[float, bytes]]:
    """Send a request every `interval` seconds.

    Return when each was sent (wall clock), and the body of its answer. Raises `MeasurementFailed`
    for an answer other than 2xx.
    """
    connection, started = await connect(port), time.perf_counter()
    sent = list[tuple[float, bytes]]()
    for number, message in enumerate(requests):
        await asyncio.sleep(started + number * interval - time.perf_counter())
        at = time.time()
        status, answer = await connection.send(message)
        if status >= 300:
            raise MeasurementFailed(f"a request was answered {status}")
        sent.append((at, answer))
    connection.transport.close()
    return sent


async def repeat(seconds: float, concurrency: int, send: Callable[[], Awaitable[None]]) -> Sample:
    """Call `send` again and again in concurrent tasks."""
    count, started = 0, time.perf_counter()

    async def send_all() -> None:
        nonlocal count
        while time.perf_counter() < started + seconds:
            await send()
            count += 1

    await asyncio.gather(*(send_all() for _ in range(concurrency)))
    return Sample(count, count / (time.perf_counter() - started))


async def wait_for(
    count: Callable[[], Awaitable[int]], wanted: int, what: str, every: float = 0.05
) -> float:
    """Wait until a count reaches `wanted`; return the seconds from its first change to its last.

    Raises `MeasurementFailed` after `PATIENCE` seconds without a change.
    """
    seen, first, last = await count(), 0.0, time.monotonic()
    while seen < wanted:
        await asyncio.sleep(every)
        now = await count()
        if now > seen:
            seen, last = now, time.monotonic()
            first = first or last - every
        elif time.monotonic() - last > PATIENCE:
            raise MeasurementFailed(f"{seen} of {wanted} {what}; none for {PATIENCE:.0f} s")
    return last - (first or last - every)


class JobLoad:
    """Submits jobs while fewer than `IN_FLIGHT` are undelivered, and is their subscriber."""

    def __init__(self, sock: socket.socket, accounts: int = 1) -> None:
        #: The subscriber's URL, all deliveries, and jobs accepted with 202 (wall clock).
        self.url = f"http://127.0.0.1:{port_of(sock)}/hook"
        self.arrivals: list[Arrival] = []
        self.accepted: dict[str, float] = {}
        self._delivered: set[str] = set()
        self._socket = sock
        self._accounts = accounts
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._connections: list[ServerConnection] = []

    async def run(self, port: int, seconds: float) -> Sample:
        """Submit for `seconds`, wait for all deliveries; the rate is up to the last delivery.

        Raises `MeasurementFailed` if a submission is refused, or deliveries do not arrive.
        """
        server = await asyncio.get_running_loop().create_server(self._accept, sock=self._socket)
        started, numbers = time.time(), itertools.count()
        callers = [self._submit(port, numbers, started + seconds) for _ in range(CALLERS)]
        await asyncio.gather(*callers)
        await wait_for(self._count, len(self.accepted), "jobs were delivered", 0.02)
        server.close()
        for connection in self._connections:
            connection.transport.close()
        rate = len(self._delivered) / (self.arrivals[-1].at - started)
        return Sample(len(self._delivered), rate, delays(self.accepted, self.arrivals))

    async def _submit(self, port: int, numbers: Iterator[int], until: float) -> None:
        connection = await connect(port)
        for number in numbers:
            try:
                await asyncio.wait_for(self._slots.acquire(), PATIENCE)
            except TimeoutError as error:
                raise MeasurementFailed(f"no delivery for {PATIENCE:.0f} s") from error
            if (sent := time.time()) >= until:
                break
            status, answer = await connection.send(submission(number % self._accounts))
            if status != 202:
                detail = answer[:200].decode(errors="replace")
                raise MeasurementFailed(f"a submission was answered {status}: {detail}")
            self.accepted[json.loads(answer)["id"]] = sent
        connection.transport.close()

    def _accept(self) -> ServerConnection:
        self._connections.append(ServerConnection(self._receive))
        return self._connections[-1]

    def _receive(self, head: bytes, body: bytes) -> bytes:
        arrival = parse_delivery(head, body)
        self.arrivals.append(arrival)
        if arrival.job not in self._delivered:
            self._delivered.add(arrival.job)
            self._slots.release()
        return _OK

    async def _count(self) -> int:
        return len(self._delivered)


def delays(sent: Mapping[str, float], arrivals: Sequence[Arrival]) -> list[float]:
    """Return the seconds from `sent` (jobs and their times) to the first arrival of each job."""
    first = {arrival.job: arrival.at for arrival in reversed(arrivals)}
    return [first[job] - at for job, at in sent.items() if job in first]


def submission(account: int = 0) -> bytes:
    """Return the request that submits a job."""
    body = {"account": f"bench-{account}", "model": "kling-v3", "input": _INPUT}
    return request("POST", "/v1/jobs", encode(body), AUTHORIZATION)


def subscribe(port: int, url: str) -> None:
    """Add a subscriber to success events through the API of a running service."""
    body = {"kind": "webhook", "url": url, "types": ["job.succeeded"], "max_in_flight": 32}
    message = request("POST", "/v1/subscribers", encode(body), AUTHORIZATION)
    uvloop.run(drive(port, [message], 1))
