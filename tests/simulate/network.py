"""The network between a replica and everybody else: it refuses, loses, delays, and forgets nothing that arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import httpx

from orchestrator.foundation.errors import TooLate

if TYPE_CHECKING:
    from tests.simulate.world import World


class Peer(Protocol):
    """Somebody out there. `None` is an answer that never comes."""

    async def serve(self, request: httpx.Request) -> httpx.Response | None: ...


class Trickle(httpx.AsyncByteStream):
    """A body that comes a byte at a time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(12):
            await asyncio.sleep(4)
            yield b"."

    async def aclose(self) -> None:
        return


class Network(httpx.AsyncBaseTransport):
    """What a replica sends its requests through."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer, or raise what httpx raises. `extensions["sent"]` tells whether the request left."""
        world = self._world
        world.checker.outside_transactions(request)
        request.extensions["sent"] = False
        await asyncio.sleep(world.dice.uniform(0, 0.1))
        if (may_leave := request.extensions.get("may_leave")) and not may_leave():
            raise TooLate("the request may no longer leave")
        if world.strikes("refused_connection"):
            world.trace.say("refused", request.url.host)
            raise httpx.ConnectError("connection refused")
        request.extensions["sent"] = True
        answer: asyncio.Future[httpx.Response] = world.loop.create_future()
        # Out there, whatever becomes of the process that sent it.
        world.spawn(self._exchange(request, answer))
        return await answer

    async def _exchange(
        self, request: httpx.Request, answer: asyncio.Future[httpx.Response]
    ) -> None:
        world = self._world
        await asyncio.sleep(world.dice.choice((0.0, 0.01, 0.1, 1.0)))
        lost = world.strikes("lost_request")
        response = None if lost else await world.peer(request.url.host).serve(request)
        if world.strikes("slow_answer"):
            await asyncio.sleep(world.dice.uniform(5, 45))
        else:
            await asyncio.sleep(world.dice.choice((0.0, 0.01, 0.1, 2.0)))
        if answer.done():
            return
        if lost or world.strikes("lost_answer"):
            world.trace.say("cut off", request.method, request.url.host)
            answer.set_exception(httpx.ReadError("connection reset"))
            # The one who asked may be dead.
            answer.exception()
        elif response is not None:
            answer.set_result(response)
