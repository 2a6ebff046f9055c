"""Callers that order one job after the other, and repeat each order until it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from tests.harness.live import order

#: Vendors with a lookup: whatever fails, they render each job exactly once.
ACCOUNTS = ("kling", "cloudsway", "kling_new")
_CALLERS = 12
#: Seconds between two calls of a caller.
_PAUSE = (0.2, 0.6)


@dataclass
class Callers:
    """Orders, each under its own Idempotency-Key, to a URL that may not answer."""

    http: httpx.AsyncClient
    rng: random.Random
    #: The id of each acknowledged order's job.
    owned: list[str] = field(default_factory=list)
    #: Of each acknowledged order, when it was sent and answered (monotonic seconds).
    times: list[tuple[float, float]] = field(default_factory=list)
    #: When orders were refused: with a 503 that has Retry-After (monotonic seconds).
    refusals: list[float] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self, more: Callable[[], bool]) -> None:
        """Order while there are to be more, and return when all orders are acknowledged."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CALLERS):
                tasks.create_task(self._call(more))

    async def _call(self, more: Callable[[], bool]) -> None:
        number = next(self._numbers)
        while True:
            if await self._order(number):
                if not more():
                    return
                number = next(self._numbers)
            await asyncio.sleep(self.rng.uniform(*_PAUSE))

    async def _order(self, number: int) -> bool:
        headers, sent = {"idempotency-key": f"order-{number}"}, time.monotonic()
        body = order(ACCOUNTS[number % len(ACCOUNTS)])
        with contextlib.suppress(httpx.TransportError, httpx.DecodingError):
            answer = await self.http.post("/v1/jobs", json=body, headers=headers)
            if answer.status_code == httpx.codes.ACCEPTED:
                self.owned.append(answer.json()["id"])
                self.times.append((sent, time.monotonic()))
                return True
            assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
            assert "retry-after" in answer.headers
            self.refusals.append(time.monotonic())
        return False

    def first_after(self, instant: float) -> float:
        """Return the seconds until an order was acknowledged that was sent after an instant."""
        answered = [answered for sent, answered in self.times if sent > instant]
        return min(answered, default=float("inf")) - instant
