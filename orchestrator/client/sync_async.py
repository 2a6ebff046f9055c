"""Every call is written once, as a coroutine over a port, and offered twice: awaited, or run to its end on the spot.

A coroutine over the blocking port never suspends: stepping it once runs all of it. So a client that blocks needs no
event loop and no second copy of the code, and `offered` gives each face the right type.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from orchestrator.client.connection import Wire


class Face:
    """How a client's calls are made."""


class Blocking(Face):
    """They return when they are done."""


class Awaiting(Face):
    """They are awaited."""


FaceT = TypeVar("FaceT", bound=Face)
P = ParamSpec("P")
T = TypeVar("T")


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine over a blocking port returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking client was given something to await: use AsyncClient for that")


class Resource(Generic[FaceT]):
    """Calls to one server, with one face."""

    def __init__(self, wire: Wire, face: type[FaceT]) -> None:
        self._wire = wire
        self._face = face

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._wire.target}>"


class offered(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Offer a coroutine method of a `Resource` as its face wants it."""

    def __init__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self._function = function

    @overload
    def __get__(self, it: Resource[Blocking], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(
        self, it: Resource[Awaiting], owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(
        self, it: None, owner: type
    ) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
    def __get__(self, it: Resource[Any] | None, owner: type) -> Callable[..., Any]:
        if it is None:
            return self._function
        method = MethodType(self._function, it)
        if it._face is Awaiting:
            return method

        @functools.wraps(method)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return finished(self._function(it, *args, **kwargs))

        return run
