"""Third-party Server-Sent Events (SSE) clients miss and repeat no event across server restarts."""

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
from tests.harness.documents import chosen
from tests.harness.live import IMPATIENT, live, order
from tests.harness.processes import Replica, end, simulated
from tests.third_party import node

pytestmark = pytest.mark.long

TYPES = ("job.submitted", "job.processing", "job.succeeded")
KEYED = {"authorization": f"Bearer {KEY}"}


@dataclass
class Received:
    """What a client received: event ids in order of arrival."""

    ids: list[str] = field(default_factory=list)
    #: Number of accepted connections.
    opened: int = 0
    #: Jobs whose completion was received.
    ended: set[str] = field(default_factory=set)
    failure: str = ""

    def add(self, event_id: str, kind: str, job: str) -> None:
        """Record an event."""
        self.ids.append(event_id)
        if kind == "job.succeeded":
            self.ended.add(job)


@contextlib.asynccontextmanager
async def eventsource_client(url: str) -> AsyncIterator[Received]:
    """Follow with `eventsource` for Node, which reconnects without help."""
    received = Received()
    process = await asyncio.create_subprocess_exec(
        *node.script_command("follow.mjs", url, KEY, *TYPES),
        cwd=await asyncio.to_thread(node.packages), env=node.environment(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def read() -> None:
        assert process.stdout
        async for line in process.stdout:
            output = json.loads(line)
            if "id" in output:
                received.add(output["id"], output["type"], output["job"])
            received.opened += "open" in output
            received.failure = received.failure or output.get("failed", "")

    reading = asyncio.create_task(read())
    try:
        yield received
    finally:
        await end(process, signal.SIGKILL)
        await reading


@contextlib.asynccontextmanager
async def httpx_sse_client(url: str) -> AsyncIterator[Received]:
    """Follow with `httpx-sse`, which leaves reconnecting to a loop.

    https://github.com/florimondmanca/httpx-sse
    """
    received = Received()
    task = asyncio.create_task(_reconnect(url, received))
    try:
        yield received
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _reconnect(url: str, received: Received) -> None:
    last, pause = "", 0.0
    async with httpx.AsyncClient(headers=KEYED, timeout=60, trust_env=False, verify=False) as http:
        while True:
            await asyncio.sleep(pause)
            headers = {"last-event-id": last} if last else {}
            with contextlib.suppress(httpx.TransportError):
                async with httpx_sse.aconnect_sse(http, "GET", url, headers=headers) as source:
                    received.opened += 1
                    async for event in source.aiter_sse():
                        last = event.id
                        pause = pause if event.retry is None else event.retry / 1000
                        # Unlike a browser, the library also returns events without data: a position
                        # in the stream.
                        if event.data:
                            received.add(event.id, event.event, event.json()["data"]["id"])


@contextlib.asynccontextmanager
async def running_service(folder: Path, accounts: dict[str, Json]) -> AsyncIterator[Replica]:
    """Run the service until the end of the block, with any restarts inside it."""
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
    """Return an API client of a service that is ready."""
    async with httpx.AsyncClient(
        base_url=service.url, headers=KEYED, timeout=30, trust_env=False, verify=False
    ) as http:
        await service.ready(http, 60)
        yield Api(http)


async def log(api: Api) -> list[str]:
    """Return the ids of all job events."""
    page: Json = await api.get(f"/v1/events?limit=200&type={','.join(TYPES)}")
    assert not page["has_more"]
    return [event["id"] for event in page["data"]]


async def submit_four(service: Replica, world: SimulatedVendors) -> set[str]:
    """Submit four jobs to a starting service. Return their ids when the vendor has accepted all."""
    async with api(service) as caller:
        jobs = {(await caller.submit(order("kling")))["id"] for _ in range(4)}
    await until(
        lambda: jobs <= {render.external_task_id for render in world.renders},
        "the vendor has them",
        60,
    )
    return jobs


async def test_sse_clients_miss_and_repeat_no_event_when_the_server_stops_or_is_killed(
    tmp_path: Path,
) -> None:
    accounts = {"kling": {"poll": IMPATIENT}}
    async with (
        SimulatedVendors(render_seconds=0.2) as world,
        contextlib.AsyncExitStack() as clients,
    ):
        async with running_service(tmp_path, simulated(world.base_url, accounts)) as service:
            url = f"{service.url}/v1/events/stream?types=job.*"
            opened = [
                await clients.enter_async_context(follow(url))
                for follow in (eventsource_client, httpx_sse_client)
            ]
            await until(lambda: all(client.opened for client in opened), "both clients follow", 60)
            jobs = await submit_four(service, world)
            await until(
                lambda: all(client.ended & jobs for client in opened),
                "both receive a completion",
                60,
            )
            assert await service.stop(signal.SIGTERM) == 0
            await service.start()
            await until(lambda: all(client.opened > 1 for client in opened), "both reconnect", 60)
            jobs |= await submit_four(service, world)
            await service.stop(signal.SIGKILL)
            await service.start()
            jobs |= await submit_four(service, world)
            await until(
                lambda: all(jobs <= client.ended for client in opened),
                "both receive every completion",
                60,
            )
            async with api(service) as caller:
                everything = await log(caller)
        for client in opened:
            assert len(client.ids) == len(set(client.ids)), "no duplicates"
            assert sorted(client.ids) == sorted(everything), "nothing missing"
            assert (client.opened, client.failure) == (3, ""), (
                "it reconnected after each restart only"
            )


async def test_a_page_follows_with_a_ticket_and_resumes_with_another(tmp_path: Path) -> None:
    (block,) = chosen("js", "in a page")
    async with live(tmp_path, {"kling": {}}) as it:
        text = (Path(__file__).parent / "page.mjs").read_text(encoding="utf-8")
        text += block.code.replace("https://hooks.example.com", it.url) + "\nfollow();"
        process = await asyncio.create_subprocess_exec(
            node.NODE, "--input-type=module", "--eval", text, "--", it.url, KEY,
            cwd=await asyncio.to_thread(node.packages), env=node.environment(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout
        assert process.stdin
        try:
            async with asyncio.timeout(60):
                assert json.loads(await process.stdout.readline()) == {"open": True}
                first = (await it.api.submit(order("kling")))["id"]
                assert json.loads(await process.stdout.readline()) == {"job": first}
                page = await it.api.get("/v1/events?limit=200&type=job.succeeded")
                process.stdin.write(page["data"][0]["id"].encode())
                assert json.loads(await process.stdout.readline()) == {"open": True}
                second = (await it.api.submit(order("kling")))["id"]
                for _ in range(2):
                    assert json.loads(await process.stdout.readline()) == {"job": second}
        finally:
            await end(process, signal.SIGKILL)
