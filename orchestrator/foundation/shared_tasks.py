"""Tasks that callers share: those who wait for the same thing wait for one task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(slots=True)
class _Shared:
    task: asyncio.Task[None]
    waiting: int = 0


class SharedTasks(Generic[KeyT]):
    """Used on one event loop."""

    def __init__(self) -> None:
        self._shared: dict[KeyT, _Shared] = {}

    async def wait(self, key: KeyT, start: Callable[[KeyT], Coroutine[Any, Any, None]]) -> None:
        """Return when the task of `key` ends. The first caller starts it, the last cancels it.

        Raises what the task raises.
        """
        shared = self._shared.get(key)
        if shared is None or shared.task.done():
            shared = self._shared[key] = _Shared(asyncio.create_task(start(key)))
        shared.waiting += 1
        try:
            await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                shared.task.cancel()
                if self._shared.get(key) is shared:
                    del self._shared[key]
