"""Whole jobs, driven from outside: callers that submit and the subscriber that hears, in one process with one clock."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.cli.bench.plan import Spoiled
from orchestrator.cli.bench.raw import line, request, response, serving
from orchestrator.cli.bench.service import AUTHORIZATION, account_names
from orchestrator.cli.bench.sink import Arrival, read
from orchestrator.foundation.json_codec import encode

#: Connections of callers, and jobs between submission and delivery at once.
CALLERS = 16
IN_FLIGHT = 256
#: Seconds without an arrival after which no more will come.
_PATIENCE = 30.0
_LOOK = 0.02
_ENDLESS = 1 << 62
_OK = response()
#: Called when so many jobs have been delivered.
Marks = Mapping[int, Callable[[], None]]


@dataclass(slots=True)
class Walked:
    """What became of the jobs. Times in seconds, from the submission on."""

    started: float = 0.0
    accepted: list[float] = field(default_factory=list)
    delivered: list[float] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    last: float = 0.0

    @property
    def rate(self) -> float:
        """Jobs a second, from the first submission to the last delivery."""
        return len(self.delivered) / (self.last - self.started) if self.delivered else 0.0


class Walk:
    """Submits as long as fewer than `IN_FLIGHT` jobs are on their way."""

    def __init__(
        self, heard_at: socket.socket, accounts: int = 1, marks: Marks | None = None
    ) -> None:
        self._socket = heard_at
        self._accounts = account_names(accounts)
        self._marks = marks or {}
        self._began: dict[str, float] = {}
        self._early: dict[str, float] = {}
        self._free = asyncio.Semaphore(IN_FLIGHT)
        self._walked = Walked()

    async def run(self, port: int, seconds: float, jobs: int = _ENDLESS) -> Walked:
        """Submit to a service for so many seconds, or so many jobs, and wait for what is on its way.

        Raises `Spoiled` if a submission is refused, or deliveries stay away.
        """
        walked = self._walked
        numbers = iter(range(jobs))
        async with serving(self._socket, self._heard):
            walked.started = time.monotonic()
            await asyncio.gather(
                *(self._caller(port, numbers, walked.started + seconds) for _ in range(CALLERS))
            )
            await self._end()
        return walked

    async def _caller(self, port: int, numbers: Iterator[int], until: float) -> None:
        there = await line(port)
        for number in numbers:
            await self._place()
            if (sent := time.monotonic()) >= until:
                break
            status, body = await there.ask(self._order(number))
            if status != 202:
                raise Spoiled(
                    f"a submission was answered {status}: {body[:200].decode(errors='replace')}"
                )
            self._walked.accepted.append(time.monotonic() - sent)
            self._on_its_way(json.loads(body)["id"], sent)
        await there.close()

    async def _place(self) -> None:
        """Wait until another job may be on its way."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._free.acquire()
        except TimeoutError as error:
            raise Spoiled(
                f"none of {IN_FLIGHT} jobs was delivered for {_PATIENCE:.0f} s"
            ) from error

    def _order(self, number: int) -> bytes:
        order = {
            "account": self._accounts[number % len(self._accounts)], "model": "kling-v3",
            "input": {"prompt": "A cinematic shot of a futuristic city", "duration": 5},
        }  # fmt: skip
        return request("POST", "/v1/jobs", encode(order), AUTHORIZATION)

    def _on_its_way(self, job_id: str, sent: float) -> None:
        if job_id in self._early:
            self._done(self._early.pop(job_id) - sent)
        else:
            self._began[job_id] = sent

    def _heard(self, head: bytes, body: bytes) -> bytes:
        arrival, now = read(head, body), time.monotonic()
        self._walked.arrivals.append(arrival)
        self._walked.last = now
        if arrival.job in self._began:
            self._done(now - self._began.pop(arrival.job))
        else:
            self._early[arrival.job] = now
        return _OK

    def _done(self, seconds: float) -> None:
        self._walked.delivered.append(seconds)
        self._free.release()
        if mark := self._marks.get(len(self._walked.delivered)):
            mark()

    async def _end(self) -> None:
        since, left = time.monotonic(), len(self._began)
        while self._began:
            await asyncio.sleep(_LOOK)
            if len(self._began) < left:
                since, left = time.monotonic(), len(self._began)
            elif time.monotonic() - since > _PATIENCE:
                raise Spoiled(f"{left} jobs were never delivered")


def hook(sock: socket.socket) -> str:
    """Return the address of a subscriber that will listen there."""
    return f"http://127.0.0.1:{sock.getsockname()[1]}/hook"


def listening() -> socket.socket:
    """Return where the subscriber will listen, on a free port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
