"""One implementation for both clients: every call is a coroutine over a transport.

A coroutine over the synchronous transport never suspends: stepping it once runs all of it. So the
synchronous client needs no event loop and no second copy of the code. `Dual` gives each client
the right result type.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from pydantic import BaseModel

from orchestrator.client.connection import Connection
from orchestrator.client.requests import Request
from orchestrator.client.responses import read


class Mode:
    """How a client's methods return."""


class Sync(Mode):
    """Methods return when they are done."""


class Async(Mode):
    """Methods are awaited."""


ModeT = TypeVar("ModeT", bound=Mode)
ModelT = TypeVar("ModelT", bound=BaseModel)
P = ParamSpec("P")
T = TypeVar("T")
SyncT = TypeVar("SyncT")
AsyncT = TypeVar("AsyncT")


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends. Raises `RuntimeError` if it does."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the synchronous client cannot await anything: use AsyncClient for that")


class Resource(Generic[ModeT]):
    """Methods over one connection, in one mode."""

    def __init__(self, connection: Connection, mode: type[ModeT]) -> None:
        self._connection = connection
        self._mode = mode

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._connection.target}>"

    async def _call(self, model: type[ModelT], request: Request) -> ModelT:
        """Return the response as a model. Raises `ClientError`."""
        return read(model, await self._connection.call(request))


class Dual(Generic[P, SyncT, AsyncT]):
    """A method of a `Resource` that is written once; `to_sync`, `to_async` convert its result."""

    def __init__(
        self,
        function: Callable[Concatenate[Any, P], Any],
        to_sync: Callable[[Any], SyncT],
        to_async: Callable[[Any], AsyncT] | None = None,
    ) -> None:
        self._function, self._to_sync, self._to_async = function, to_sync, to_async

    @overload
    def __get__(self, resource: Resource[Sync], owner: type) -> Callable[P, SyncT]: ...
    @overload
    def __get__(self, resource: Resource[Async], owner: type) -> Callable[P, AsyncT]: ...
    @overload
    def __get__(self, resource: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    def __get__(self, resource: Resource[Any] | None, owner: type) -> Callable[..., Any]:
        if resource is None:
            return self._function
        method = MethodType(self._function, resource)
        convert = self._to_async if resource._mode is Async else self._to_sync
        if convert is None:
            return method

        @functools.wraps(method)
        def converted(*args: P.args, **kwargs: P.kwargs) -> SyncT | AsyncT:
            return convert(method(*args, **kwargs))

        return converted


def dual(
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Dual[P, T, Coroutine[Any, Any, T]]:
    """Offer a coroutine method in both modes: run to its end, or awaited."""
    return Dual(function, run_sync)
