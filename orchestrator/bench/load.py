"""A load generator that costs as little as Python allows: raw HTTP/1.1 over kept-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run of requests came to. Times in seconds."""

    requests: int
    seconds: float
    statuses: dict[int, int]
    latencies: Sequence[float]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def quantile(self, share: float) -> float:
        """Return the latency that `share` of the requests did not exceed, in milliseconds."""
        return quantile(self.latencies, share)


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of times in seconds, as milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def drive(port: int, requests: Sequence[bytes], connections: int) -> Figures:
    """Send the requests over so many connections, each as soon as the last is answered."""
    waiting, latencies, statuses = iter(requests), list[float](), dict[int, int]()
    started = time.perf_counter()
    await asyncio.gather(*(_talk(port, waiting, latencies, statuses) for _ in range(connections)))
    return Figures(len(latencies), time.perf_counter() - started, statuses, latencies)


async def _talk(port: int, waiting: Iterator[bytes], latencies: list[float], statuses: dict[int, int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in waiting:
        sent = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        at = head.lower().index(b"content-length:") + 15
        await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        latencies.append(time.perf_counter() - sent)
        statuses[status] = statuses.get(status, 0) + 1
    writer.close()
