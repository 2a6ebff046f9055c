"""The network between replicas and others: refuses, loses and delays requests and answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import httpx

from orchestrator.foundation.errors import TooLate

if TYPE_CHECKING:
    from tests.simulate.world import World


class Peer(Protocol):
    """A server outside the replicas. `None` is an answer that never arrives."""

    async def serve(self, request: httpx.Request) -> httpx.Response | None: ...


class Trickle(httpx.AsyncByteStream):
    """A response body with one byte every four seconds."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(12):
            await asyncio.sleep(4)
            yield b"."

    async def aclose(self) -> None:
        return


class Network(httpx.AsyncBaseTransport):
    """The HTTP transport of a replica."""

    def __init__(self, world: World, replica: str) -> None:
        self._world = world
        self._replica = replica

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response or raise httpx errors.

        `extensions["sent"]` is True once the request has left.
        """
        world = self._world
        world.checker.request_sent(request)
        request.extensions["sent"] = False
        await asyncio.sleep(world.rng.uniform(0, 0.1))
        if (may_leave := request.extensions.get("may_leave")) and not may_leave():
            raise TooLate("the request may no longer leave")
        if world.occurs("refused_connection"):
            world.trace.add("refused", request.url.host)
            raise httpx.ConnectError("connection refused")
        request.extensions["sent"] = True
        world.checker.request_left(self._replica, request)
        answer: asyncio.Future[httpx.Response] = world.loop.create_future()
        # Runs outside the process, so the request arrives even if its sender crashes.
        world.spawn(self._exchange(request, answer))
        if request.method == "POST" and "webhook-id" not in request.headers:
            world.submission_left(self._replica)
        return await answer

    async def _exchange(
        self, request: httpx.Request, answer: asyncio.Future[httpx.Response]
    ) -> None:
        world = self._world
        await asyncio.sleep(world.rng.choice((0.0, 0.01, 0.1, 1.0)))
        lost = world.occurs("lost_request")
        response = None if lost else await world.peer(request.url.host).serve(request)
        if world.occurs("slow_answer"):
            await asyncio.sleep(world.rng.uniform(5, 90))
        else:
            await asyncio.sleep(world.rng.choice((0.0, 0.01, 0.1, 2.0)))
        if answer.done():
            return
        if lost or world.occurs("lost_answer"):
            world.trace.add("cut off", request.method, request.url.host)
            answer.set_exception(httpx.ReadError("connection reset"))
            # Marks the exception as retrieved: the sender may be dead.
            answer.exception()
        elif response is not None:
            answer.set_result(response)
