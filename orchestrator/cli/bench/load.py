"""The load: requests over kept-alive connections, each sent as soon as the last is answered, or at an even pace."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestrator.cli.bench.plan import Spoiled
from orchestrator.cli.bench.raw import Line, line


@dataclass(slots=True)
class Load:
    """What requests came to. Times in seconds; `acknowledged` are the places of those that were answered 2xx."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests answered 2xx a second."""
        return len(self.acknowledged) / self.seconds if self.seconds else 0.0

    def note(self, place: int, status: int, latency: float) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.latencies.append(latency)
        if status < 300:
            self.acknowledged.append(place)


async def drive(
    port: int, requests: Sequence[bytes], connections: int, seconds: float = math.inf
) -> Load:
    """Send requests for so many seconds, at least one on each connection, or until there are no more."""
    load, waiting = Load(), iter(enumerate(requests))
    lines = [await line(port) for _ in range(connections)]
    started = time.perf_counter()
    await asyncio.gather(*(_talk(one, waiting, load, started + seconds) for one in lines))
    load.seconds = time.perf_counter() - started
    for one in lines:
        await one.close()
    if not load.acknowledged:
        raise Spoiled(f"nothing was acknowledged: {dict(load.statuses) or 'no answers'}")
    return load


async def _talk(
    there: Line, waiting: Iterator[tuple[int, bytes]], load: Load, until: float
) -> None:
    for place, request in waiting:
        sent = time.perf_counter()
        status, _ = await there.ask(request)
        load.note(place, status, (now := time.perf_counter()) - sent)
        if now >= until:
            return


async def pace(port: int, requests: Sequence[bytes], pause: float) -> list[float]:
    """Send requests one by one, so many seconds apart; return when each was sent, by the machine's clock.

    Raises `Spoiled` for an answer that is no 2xx.
    """
    there, sent, started = await line(port), list[float](), time.perf_counter()
    for place, request in enumerate(requests):
        await asyncio.sleep(started + place * pause - time.perf_counter())
        sent.append(time.time())
        status, _ = await there.ask(request)
        if status >= 300:
            raise Spoiled(f"a push was answered {status}")
    await there.close()
    return sent
