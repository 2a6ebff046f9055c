"""What other subscribers feel of one that never answers and one that sends a byte a second: side by side, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

import uvloop

from orchestrator.app import build
from orchestrator.bench.ingest import pushes
from orchestrator.bench.latency import delays
from orchestrator.bench.load import post, quantile
from orchestrator.bench.seeding import jobs, subscribe
from orchestrator.bench.servers import process, service, settings
from orchestrator.bench.sink import sink

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 3600\r\n\r\n"


def run(count: int, per_second: float, rounds: int) -> dict[str, Any]:
    """Deliver `count` events at an even pace, with and without the two beside, and return both delays in milliseconds.

    Figures are medians of the rounds, and of the ratio within each: 1 where a slow subscriber delays nobody but itself.
    """
    alone, beside = list[list[float]](), list[list[float]]()
    held = 0
    for _ in range(rounds):
        waits, _ = _round(count, per_second, slow=False)
        alone.append(waits)
        waits, stuck = _round(count, per_second, slow=True)
        beside.append(waits)
        held += stuck
    return {
        "deliveries_each": count * rounds,
        "alone": _figures(alone),
        "beside_two_slow_ones": _figures(beside),
        "p50_ratio": _ratio(beside, alone, 0.5),
        "p99_ratio": _ratio(beside, alone, 0.99),
        "requests_the_slow_ones_held": held,
    }


def _figures(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    p50s, p99s = (_quantiles(rounds, share) for share in (0.5, 0.99))
    return {
        "p50_ms": round(statistics.median(p50s), 2),
        "p99_ms": round(statistics.median(p99s), 2),
        "p99_ms_of_each_round": [round(one, 2) for one in p99s],
    }


def _ratio(beside: Sequence[Sequence[float]], alone: Sequence[Sequence[float]], share: float) -> float:
    pairs = zip(_quantiles(beside, share), _quantiles(alone, share), strict=True)
    return round(statistics.median(a / b for a, b in pairs), 2)


def _quantiles(rounds: Sequence[Sequence[float]], share: float) -> list[float]:
    return [quantile(waits, share) for waits in rounds]


def _round(count: int, per_second: float, *, slow: bool) -> tuple[list[float], int]:
    """Return how long each delivery took from the push, in seconds, and how many requests the slow ones held."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(sink())
        requests = [post(*one) for one in pushes(folder, asyncio.run(jobs(settings(folder), count)))]
        hosts = contextlib.ExitStack()
        stuck = [hosts.enter_context(_slow(drop)) for drop in (b"", b".")] if slow else []
        asyncio.run(_subscribe(folder, [port, *(other for other, _ in stuck)]))
        door = stack.enter_context(process(service, folder, {}))
        # The slow ones end before the service does, or it would wait for them.
        with hosts:
            waits = asyncio.run(delays(door, port, requests, 1 / per_second))
            return waits, sum(held.value for _, held in stuck)


async def _subscribe(folder: Path, ports: Sequence[int]) -> None:
    rt = build(settings(folder))
    rt.store.start()
    try:
        for port in ports:
            await rt.store.write(subscribe, rt, f"http://127.0.0.1:{port}/hook")
    finally:
        rt.store.close()


# -- subscribers that are no good


class _Stuck(asyncio.Protocol):
    """One connection: everything is read, no answer ever ends. With a `drop` it begins, and goes on every second."""

    def __init__(self, held: Any, drop: bytes) -> None:
        self._held = held
        self._drop = drop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"POST"):
            return
        self._held.value += 1
        if self._drop:
            self._transport.write(_HEAD)
            self._go_on()

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._drop)
            asyncio.get_running_loop().call_later(1, self._go_on)


@contextlib.contextmanager
def _slow(drop: bytes) -> Iterator[tuple[int, Any]]:
    """Run such a server in a process; yield its port and a count of the requests it holds."""
    spawn = multiprocessing.get_context("spawn")
    stop, held = spawn.Event(), spawn.Value("i", 0)
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    child = spawn.Process(target=_serve, args=(sock, stop, held, drop))
    child.start()
    try:
        yield sock.getsockname()[1], held
    finally:
        stop.set()
        child.join(10)
        sock.close()


def _serve(sock: socket.socket, stop: Flag, held: Any, drop: bytes) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_server(lambda: _Stuck(held, drop), sock=sock)
        await asyncio.to_thread(stop.wait)

    uvloop.run(main())
