"""The two faces of a stream of events."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, overload

from orchestrator.client.following import Following
from orchestrator.client.sync_async import Awaiting, Blocking, Resource, finished
from orchestrator.schemas import Event

P = ParamSpec("P")


class EventStream:
    """Events as they happen, for as long as one iterates. Persist `cursor` once an event is dealt with.

    with client.events.stream(types=["job.*"], after=saved) as stream:
        for event in stream:
            handle(event)
            save(stream.cursor)
    """

    def __init__(self, following: Following) -> None:
        self._following = following

    @property
    def cursor(self) -> str | None:
        """The place in the log: pass it as `after` to go on here. None until the server has said where it begins."""
        return self._following.cursor

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        event = finished(self._following.next())
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """End it; iterating ends."""
        finished(self._following.close())

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncEventStream:
    """Events as they happen, for as long as one iterates. Persist `cursor` once an event is dealt with.

    async with client.events.stream(types=["job.*"], after=saved) as stream:
        async for event in stream:
            handle(event)
            save(stream.cursor)
    """

    def __init__(self, following: Following) -> None:
        self._following = following

    @property
    def cursor(self) -> str | None:
        """The place in the log: pass it as `after` to go on here. None until the server has said where it begins."""
        return self._following.cursor

    def __aiter__(self) -> AsyncEventStream:
        return self

    async def __anext__(self) -> Event:
        event = await self._following.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """End it; iterating ends."""
        await self._following.close()

    async def __aenter__(self) -> AsyncEventStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class streamed(Generic[P]):  # noqa: N801 - used as a decorator
    """Offer a method of a `Resource` that describes a stream as its face wants it."""

    def __init__(self, function: Callable[Concatenate[Any, P], Following]) -> None:
        self._function = function

    @overload
    def __get__(self, it: Resource[Blocking], owner: type) -> Callable[P, EventStream]: ...
    @overload
    def __get__(self, it: Resource[Awaiting], owner: type) -> Callable[P, AsyncEventStream]: ...
    @overload
    def __get__(self, it: None, owner: type) -> Callable[Concatenate[Any, P], Following]: ...
    def __get__(self, it: Resource[Any] | None, owner: type) -> Callable[..., Any]:
        if it is None:
            return self._function
        method, face = (
            MethodType(self._function, it),
            AsyncEventStream if it._face is Awaiting else EventStream,
        )

        @functools.wraps(method)
        def describe(*args: P.args, **kwargs: P.kwargs) -> Any:
            return face(method(*args, **kwargs))

        return describe
