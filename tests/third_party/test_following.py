"""Clients of Server-Sent Events that others made lose nothing and hear nothing twice, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import httpx_sse
import pytest

from orchestrator.simulator import SimulatedVendors
from tests.harness.api_caller import KEY, Api, Json, until
from tests.harness.live import IMPATIENT, order
from tests.harness.processes import Replica, end, simulated
from tests.third_party import node

pytestmark = pytest.mark.long

TYPES = ("job.submitted", "job.processing", "job.succeeded")
KEYED = {"authorization": f"Bearer {KEY}"}


@dataclass
class Heard:
    """What one client has told its user: the ids of events in the order in which they came."""

    ids: list[str] = field(default_factory=list)
    #: How often it was let in.
    opened: int = 0
    #: Jobs whose end it has heard.
    ended: set[str] = field(default_factory=set)
    failure: str = ""

    def take(self, event_id: str, kind: str, job: str) -> None:
        """Note an event."""
        self.ids.append(event_id)
        if kind == "job.succeeded":
            self.ended.add(job)


@contextlib.asynccontextmanager
async def eventsource(url: str) -> AsyncIterator[Heard]:
    """Follow with `eventsource` for Node, which comes back by itself."""
    heard = Heard()
    process = await asyncio.create_subprocess_exec(
        *node.script("follow.mjs", url, KEY, *TYPES), cwd=await asyncio.to_thread(node.packages),
        env=node.environment(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def read() -> None:
        assert process.stdout
        async for line in process.stdout:
            said = json.loads(line)
            if "id" in said:
                heard.take(said["id"], said["type"], said["job"])
            heard.opened += "open" in said
            heard.failure = heard.failure or said.get("failed", "")

    reading = asyncio.create_task(read())
    try:
        yield heard
    finally:
        await end(process, signal.SIGKILL)
        await reading


@contextlib.asynccontextmanager
async def sse_for_httpx(url: str) -> AsyncIterator[Heard]:
    """Follow with `httpx-sse`, which leaves coming back to a loop: https://github.com/florimondmanca/httpx-sse"""
    heard = Heard()
    task = asyncio.create_task(_come_back(url, heard))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _come_back(url: str, heard: Heard) -> None:
    last, pause = "", 0.0
    async with httpx.AsyncClient(headers=KEYED, timeout=60, trust_env=False) as http:
        while True:
            await asyncio.sleep(pause)
            headers = {"last-event-id": last} if last else {}
            with contextlib.suppress(httpx.TransportError):
                async with httpx_sse.aconnect_sse(http, "GET", url, headers=headers) as source:
                    heard.opened += 1
                    async for one in source.aiter_sse():
                        last = one.id
                        pause = pause if one.retry is None else one.retry / 1000
                        # Unlike a browser it also tells of what has no data: a place in the stream, without an event.
                        if one.data:
                            heard.take(one.id, one.event, one.json()["data"]["id"])


@contextlib.asynccontextmanager
async def started(folder: Path, accounts: dict[str, Json]) -> AsyncIterator[Replica]:
    """Run the service, whatever becomes of its processes, to the end of the block."""
    service = Replica(folder, accounts)
    await service.start()
    try:
        async with api(service):
            yield service
    finally:
        if service.child is not None:
            await service.stop(signal.SIGKILL)


@contextlib.asynccontextmanager
async def api(service: Replica) -> AsyncIterator[Api]:
    """Call a service that is ready."""
    async with httpx.AsyncClient(
        base_url=service.url, headers=KEYED, timeout=30, trust_env=False
    ) as http:
        await service.ready(http, 60)
        yield Api(http)


async def log(api: Api) -> list[str]:
    """Return the ids of all events there are, about jobs."""
    page: Json = await api.get(f"/v1/events?limit=200&type={','.join(TYPES)}")
    assert not page["has_more"]
    return [one["id"] for one in page["data"]]


async def four_more(service: Replica, world: SimulatedVendors) -> set[str]:
    """Submit jobs to a service that is starting; return their ids when the vendor has them all, or has ended some."""
    async with api(service) as caller:
        jobs = {(await caller.submit(order("kling")))["id"] for _ in range(4)}
    await until(
        lambda: jobs <= {one.external_task_id for one in world.renders}, "the vendor has them", 60
    )
    return jobs


async def test_clients_of_streams_lose_nothing_and_hear_nothing_twice_when_the_server_ends_or_is_killed(
    tmp_path: Path,
) -> None:
    accounts = {"kling": {"poll": IMPATIENT}}
    async with (
        SimulatedVendors(render_seconds=0.2) as world,
        contextlib.AsyncExitStack() as clients,
    ):
        async with started(tmp_path, simulated(world.base_url, accounts)) as service:
            url = f"{service.url}/v1/events/stream?types=job.*"
            opened = [
                await clients.enter_async_context(follow(url))
                for follow in (eventsource, sse_for_httpx)
            ]
            await until(lambda: all(one.opened for one in opened), "both clients follow", 60)
            jobs = await four_more(service, world)
            await until(lambda: all(one.ended & jobs for one in opened), "both hear of an end", 60)
            assert await service.stop(signal.SIGTERM) == 0
            await service.start()
            await until(lambda: all(one.opened > 1 for one in opened), "both come back", 60)
            jobs |= await four_more(service, world)
            await service.stop(signal.SIGKILL)
            await service.start()
            jobs |= await four_more(service, world)
            await until(
                lambda: all(jobs <= one.ended for one in opened), "both hear of every end", 60
            )
            async with api(service) as caller:
                everything = await log(caller)
        for one in opened:
            assert len(one.ids) == len(set(one.ids)), "nothing twice"
            assert sorted(one.ids) == sorted(everything), "nothing missing"
            assert (one.opened, one.failure) == (3, ""), "it came back by itself, and only then"
