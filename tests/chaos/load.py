"""Callers that retry the same order under the same Idempotency-Key until it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import httpx

from tests.harness.api_caller import eventually
from tests.harness.audit import QUERYABLE, Json
from tests.harness.live import order
from tests.harness.processes import Simulator

ACCOUNTS = ("kling", "cloudsway", "dreamto", "agentsflare", "cubicspaces", "kling_new")
_LIVE = "queued,submitting,submitted,processing"


@dataclass
class Load:
    """Submits orders at a rate to a URL that may not answer."""

    http: httpx.AsyncClient
    orders: int
    rate: float
    rng: random.Random
    #: Seconds after which a job expires that its vendor neither pushes nor can look up.
    deadline: float
    accounts: tuple[str, ...] = ACCOUNTS
    #: The job id of each answered order; duplicates stay.
    owned: list[str] = field(default_factory=list)
    #: Calls that failed or were answered with 503.
    repeats: int = 0
    #: Calls answered with 503.
    refused: int = 0
    #: Calls answered with the job of an earlier call whose answer was lost.
    replayed: int = 0

    async def run(self) -> None:
        """Submit all orders and return when each is answered."""
        async with asyncio.TaskGroup() as callers:
            for number in range(self.orders):
                callers.create_task(self._call(number))
                await asyncio.sleep(self.rng.uniform(0.5, 1.5) / self.rate)

    async def _call(self, number: int) -> None:
        account = self.accounts[number % len(self.accounts)]
        body = order(account) if account in QUERYABLE else order(account, deadline=self.deadline)
        while True:
            with contextlib.suppress(httpx.TransportError, httpx.DecodingError):
                answer = await self.http.post(
                    "/v1/jobs", json=body, headers={"idempotency-key": f"order-{number}"}
                )
                if answer.status_code == httpx.codes.ACCEPTED:
                    self.owned.append(answer.json()["id"])
                    self.replayed += "idempotent-replayed" in answer.headers
                    return
                assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
                self.refused += 1
            self.repeats += 1
            await asyncio.sleep(self.rng.uniform(0.1, 0.3))


async def settled(http: httpx.AsyncClient, seconds: float) -> None:
    """Wait until no job is live and no delivery is pending."""

    async def over() -> bool:
        with contextlib.suppress(httpx.TransportError):
            lists = [
                await http.get(f"/v1/jobs?status={_LIVE}&limit=1"),
                await http.get("/v1/deliveries?status=pending&limit=1"),
            ]
            return all(
                page.status_code == httpx.codes.OK and not page.json()["data"] for page in lists
            )
        return False

    await eventually(over, "everything ends", seconds)


async def listen(sim: Simulator, http: httpx.AsyncClient, hook: str, slack: str) -> None:
    """Create three subscribers: for all events, for those of jobs in order, and Slack."""
    bodies: list[Json] = [
        {"url": hook, "types": ["job.*", "account.*"]},
        {"url": hook + "?ordered", "types": ["job.*"], "ordered": True},
        {"kind": "slack", "url": slack, "types": ["job.succeeded"]},
    ]
    for body in bodies:
        made = await http.post("/v1/subscribers", json=body | {"max_in_flight": 32})
        if secret := made.raise_for_status().json().get("secret"):
            await sim.control("/secret", secret=secret)
