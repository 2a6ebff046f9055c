"""`EventStream` and `AsyncEventStream`: a `Follower` as an iterator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from orchestrator.client.following import Follower
from orchestrator.client.sync_async import Dual, run_sync
from orchestrator.schemas import Event

P = ParamSpec("P")


class _Stream:
    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    @property
    def cursor(self) -> str | None:
        """The position in the log: pass it as `after` to resume. None until it is known."""
        return self._follower.cursor


class EventStream(_Stream):
    """Events as they happen. Persist `cursor` once an event is processed.

    with client.events.stream(types=["job.*"], after=saved) as stream:
        for event in stream:
            handle(event)
            save(stream.cursor)
    """

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        event = run_sync(self._follower.next())
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Close the connection; iteration ends."""
        run_sync(self._follower.close())

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncEventStream(_Stream):
    """Events as they happen. Persist `cursor` once an event is processed.

    async with client.events.stream(types=["job.*"], after=saved) as stream:
        async for event in stream:
            handle(event)
            save(stream.cursor)
    """

    def __aiter__(self) -> AsyncEventStream:
        return self

    async def __anext__(self) -> Event:
        event = await self._follower.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """Close the connection; iteration ends."""
        await self._follower.close()

    async def __aenter__(self) -> AsyncEventStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def dual_stream(
    function: Callable[Concatenate[Any, P], Follower],
) -> Dual[P, EventStream, AsyncEventStream]:
    """Offer a method that returns a `Follower` in both modes."""
    return Dual(function, EventStream, AsyncEventStream)
