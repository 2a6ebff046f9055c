"""What a caller's own functions are told, besides what calls return."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.client.errors import ClientError


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may have been missed: the log begins after this id, and the stream goes on there."""

    resumes_after: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The connection is gone, and is made again after `delay` seconds; `tries` counts from 1 until it is up again.

    `error` is None where the server ended the stream in good order, as it does now and then and before it restarts.
    """

    tries: int
    delay: float
    error: ClientError | None
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Whom a stream tells of what is no event."""

    on_gap: Callable[[Gap], object] | None = None
    on_reconnect: Callable[[Reconnect], object] | None = None
    on_open: Callable[[], object] | None = None


async def done(said: object) -> None:
    """Wait for what a caller's function returned, if it is a coroutine function and its client awaits."""
    if inspect.isawaitable(said):
        await said
