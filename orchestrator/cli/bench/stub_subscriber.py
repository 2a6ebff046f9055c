"""Subscribers that cost next to nothing: `stub_subscriber [silent|trickle]`.

By default it answers 200 and records deliveries. Two modes hang: `silent` reads deliveries and
never answers, `trickle` begins an answer and sends a byte per second. `GET /count` returns the
number of deliveries, `GET /` their list.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from orchestrator.cli.bench.measurement import Integrity
from orchestrator.cli.bench.raw_http import ServerConnection, get, header, response, serve
from orchestrator.foundation.json_codec import encode

HANGING = ("silent", "trickle")
_OK = response()
_SEQUENCE = re.compile(rb'"sequence":\s*(\d+)')
_JOB = re.compile(rb'"id":\s*"(job_[^"]+)"')


class Arrival(NamedTuple):
    """A delivery as the subscriber received it. `at` is wall clock seconds."""

    at: float
    event: str
    job: str
    sequence: int


def parse_delivery(head: bytes, body: bytes) -> Arrival:
    """Return the arrival that a request is."""
    job, sequence = _JOB.search(body), _SEQUENCE.search(body)
    return Arrival(
        time.time(),
        header(head, b"webhook-id").decode(),
        job[1].decode() if job else "",
        int(sequence[1]) if sequence else 0,
    )


def check_arrivals(arrivals: Sequence[Arrival], expected: int) -> Integrity:
    """Count events that are missing or repeated, and arrivals after a later event of their job."""
    events, inversions, latest = {each.event for each in arrivals}, 0, Counter[str]()
    for arrival in arrivals:
        inversions += arrival.sequence < latest[arrival.job]
        latest[arrival.job] = max(latest[arrival.job], arrival.sequence)
    return Integrity(expected - len(events), len(arrivals) - len(events), inversions)


async def fetch_arrivals(port: int) -> list[Arrival]:
    """Return what the stub on a port has received, in order."""
    return [Arrival(*fields) for fields in json.loads(await get(port, "/"))]


async def count_arrivals(port: int) -> int:
    """Return how many deliveries the stub on a port has received."""
    return int(await get(port, "/count"))


class Subscriber(ServerConnection):
    """A connection to the stub."""

    def __init__(self, mode: str, arrivals: list[Arrival]) -> None:
        super().__init__(self._respond)
        self._mode = mode
        self._arrivals = arrivals

    def _respond(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"POST"):
            self._arrivals.append(parse_delivery(head, body))
            return self._accept() if self._mode else _OK
        counted = head.startswith(b"GET /count")
        return response(encode(len(self._arrivals) if counted else self._arrivals))

    def _accept(self) -> bytes:
        """Return the first bytes of an answer that never ends."""
        if self._mode == "silent":
            return b""
        asyncio.get_running_loop().call_later(1.0, self._trickle)
        return b"HTTP/1.1 200 OK\r\ncontent-length: 3600\r\n\r\n"

    def _trickle(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b".")
            asyncio.get_running_loop().call_later(1.0, self._trickle)


if __name__ == "__main__":
    serve(partial(Subscriber, "".join(sys.argv[1:]), []))
