"""An event loop in virtual time: it jumps to the next timer when idle, and chance picks among what is ready.

Everything runs in the context of a `Process` or of the world around them. What belongs to a dead process is never run
again: that is a crash, at whatever `await` it stood. What belongs to a frozen one waits until it thaws (SIGSTOP).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Steps of a run. A plan takes some ten thousand; more is a loop that spins.
_MOST = 150_000


class Process:
    """What dies and stands still as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until = 0.0
        self._context = copy_context()
        self._context.run(_PROCESS.set, self)

    def context(self) -> Context:
        """Return a context in which whatever is started belongs to this process."""
        return self._context.copy()


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
_Entry = tuple[Process | None, asyncio.Handle]


class Idle(Exception):
    """Nothing is ready, no timer is set, and the run is not over."""


class _Numbered(asyncio.Task[T]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(
        self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], number: int, **more: Any
    ) -> None:
        # First: what follows puts it into a set.
        self.number = number
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one ready callback at a time. `step` is called with the process of each, before it; it may kill it."""

    def __init__(self, rng: random.Random, step: Callable[[Process], None]) -> None:
        super().__init__()
        self._rng = rng
        self._step = step
        self._now = 0.0
        self._waiting: list[_Entry] = []
        self._timers: list[tuple[float, int, Process | None, asyncio.Handle]] = []
        self._made = 0
        #: Kept, since collecting a suspended task would run its `finally` blocks: a crash runs none.
        self._kept: list[asyncio.Task[Any]] = []
        self._dropped: list[asyncio.Handle] = []
        self._failure: Exception | None = None
        self.steps = 0

    def fail(self, error: Exception) -> None:
        """End the run with an error after this step. The first one counts."""
        self._failure = self._failure or error

    def time(self) -> float:
        """Return the virtual time, in seconds since the run began."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Add a callback to what is ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._waiting.append((_owner(context), handle))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Add a callback to what is ready. There are no threads here."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer at a virtual time."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._push(when, _owner(context), timer)
        return timer

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task, and remember it."""
        task = _Numbered(
            coro, len(self._kept), loop=self, name=str(name or "task"), context=context
        )
        self._kept.append(task)
        return task

    def dispose(self) -> None:
        """Close what is still suspended, quietly: the run is over."""
        self.set_exception_handler(lambda *_: None)
        for task in self._kept:
            coroutine = task.get_coro()
            if not task.done() and isinstance(coroutine, Coroutine):
                # A crash has no tidy end, and whatever a `finally` block now says about that is no news.
                with contextlib.suppress(Exception):
                    coroutine.close()
        self._kept.clear()
        self._dropped.clear()
        self._waiting.clear()
        self._timers.clear()
        self.close()

    def _push(self, when: float, owner: Process | None, handle: asyncio.Handle) -> None:
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, owner, handle))

    def _run_once(self) -> None:
        self._wake()
        if not self._waiting:
            if not self._timers:
                raise Idle
            self._now = self._timers[0][0]
            self._wake()
        assert self.steps < _MOST, "it spins"
        self._run(*self._drawn())
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        while self._timers and (self._timers[0][0] <= self._now or self._timers[0][3].cancelled()):
            _, _, owner, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._waiting.append((owner, handle))

    def _drawn(self) -> _Entry:
        """Take one of what is ready, by chance."""
        waiting = self._waiting
        place = int(self._rng.random() * len(waiting)) if len(waiting) > 1 else 0
        waiting[place], waiting[-1] = waiting[-1], waiting[place]
        return waiting.pop()

    def _run(self, owner: Process | None, handle: asyncio.Handle) -> None:
        if owner is not None and not handle.cancelled():
            if not owner.dead:
                self._step(owner)
            if owner.dead:
                self._dropped.append(handle)
                return
            if owner.frozen_until > self._now:
                self._push(owner.frozen_until, owner, handle)
                return
        self.steps += 1
        if not handle.cancelled():
            handle._run()


def _owner(context: Context | None) -> Process | None:
    return _PROCESS.get() if context is None else context.get(_PROCESS)
