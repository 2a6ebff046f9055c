"""The caller's own functions that a stream or a wait calls, and their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.client.errors import ClientError
from orchestrator.schemas import Job

#: Called with a job that is waited for, whenever it has changed.
OnChange = Callable[[Job], object]


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may have been missed: the log starts after this id, where the stream resumes."""

    resumes_after: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The connection is lost, and the stream reconnects after `delay` seconds.

    `tries` counts from 1 until it is connected. `error` is None where the server ended the stream
    in good order, as it does from time to time and before a restart.
    """

    tries: int
    delay: float
    error: ClientError | None
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The callbacks of a stream."""

    on_gap: Callable[[Gap], object] | None = None
    on_reconnect: Callable[[Reconnect], object] | None = None
    on_open: Callable[[], object] | None = None


async def finish(result: object) -> None:
    """Await what a callback returned if it is awaitable: the async client takes both kinds."""
    if inspect.isawaitable(result):
        await result
