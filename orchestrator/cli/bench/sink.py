"""A subscriber that costs next to nothing: answers 200, and remembers which event arrived when.

`GET /count` answers how many arrived; `GET /` lists them, each line `time event job sequence`.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.cli.bench.figures import Honest
from orchestrator.cli.bench.raw import get, header, response

_OK = response()
_SEQUENCE = re.compile(rb'"sequence":\s*(\d+)')
_JOB = re.compile(rb'"id":\s*"(job_[^"]+)"')


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery at the subscriber's end. `at` is by the machine's clock."""

    at: float
    event: str
    job: str
    sequence: int


def read(head: bytes, body: bytes) -> Arrival:
    """Return what a delivery is about."""
    job, sequence = _JOB.search(body), _SEQUENCE.search(body)
    return Arrival(
        time.time(),
        header(head, b"webhook-id").decode(),
        job[1].decode() if job else "",
        int(sequence[1]) if sequence else 0,
    )


def judged(arrived: Sequence[Arrival], owed: int) -> Honest:
    """Return what is missing of so many events, what came again, and what came after a later event of its job."""
    events = {one.event for one in arrived}
    return Honest(owed - len(events), len(arrived) - len(events), _inversions(arrived))


def _inversions(arrived: Iterable[Arrival]) -> int:
    latest, count = Counter[str](), 0
    for one in arrived:
        count += one.sequence < latest[one.job]
        latest[one.job] = max(latest[one.job], one.sequence)
    return count


async def arrivals(port: int) -> list[Arrival]:
    """Return what has arrived at the sink on a port, in order."""
    lines = (await get(port, "/")).decode().split("\n")
    parts = [line.split(" ") for line in lines if line]
    return [Arrival(float(at), event, job, int(sequence)) for at, event, job, sequence in parts]


async def arrived(port: int) -> int:
    """Return how many have."""
    return int(await get(port, "/count"))


def main() -> None:
    """Be the subscriber."""
    from orchestrator.cli.bench.child import serve

    kept: list[Arrival] = []

    def answer(head: bytes, body: bytes) -> bytes:
        if head.startswith(b"POST"):
            kept.append(read(head, body))
            return _OK
        if head.startswith(b"GET /count"):
            return response(b"%d" % len(kept))
        return response(
            "\n".join(f"{one.at} {one.event} {one.job} {one.sequence}" for one in kept).encode()
        )

    serve(answer)


if __name__ == "__main__":
    main()
