"""An event loop in virtual time: jumps to the next timer when idle, and runs ready callbacks in
random order.

Every callback belongs to a `Process`, or to the world outside. Callbacks of a dead process never
run: a crash, at any `await`. Callbacks of a frozen process wait until it resumes (SIGSTOP).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Most steps of a run. A plan takes some ten thousand; more is a busy loop.
_MAX_STEPS = 150_000


class Process:
    """A unit of failure: all its callbacks crash or freeze together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until = 0.0
        self._context = copy_context()
        self._context.run(_PROCESS.set, self)

    def context(self) -> Context:
        """Return a context that assigns what is started in it to this process."""
        return self._context.copy()


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
_Entry = tuple[Process | None, asyncio.Handle]


class Stalled(Exception):
    """No callback is ready, no timer is set, and the run is not over."""


class _OrderedTask(asyncio.Task[T]):
    """A task whose hash does not depend on its address: the order of a set is reproducible."""

    def __init__(
        self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], number: int, **more: Any
    ) -> None:
        # Before `super().__init__`, which puts the task into a set.
        self.number = number
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one ready callback at a time.

    `step` is called before each with its process and may kill it.
    """

    def __init__(self, rng: random.Random, step: Callable[[Process], None]) -> None:
        super().__init__()
        self._rng = rng
        self._step = step
        self._now = 0.0
        self._waiting: list[_Entry] = []
        self._timers: list[tuple[float, int, Process | None, asyncio.Handle]] = []
        self._timer_count = 0
        #: References to all tasks: collecting a suspended task would run its `finally` blocks, and
        #: a crash runs none.
        self._tasks: list[asyncio.Task[Any]] = []
        self._dropped: list[asyncio.Handle] = []
        self._failure: Exception | None = None
        self.steps = 0

    def fail(self, error: Exception) -> None:
        """Raise an error after this step. The first error wins."""
        self._failure = self._failure or error

    def time(self) -> float:
        """Return the virtual time, in seconds since the start of the run."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Make a callback ready."""
        handle = asyncio.Handle(callback, args, self, context)
        self._waiting.append((_owner(context), handle))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Make a callback ready. The simulator has no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer `delay` seconds from now."""
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
        """Start a task and keep a reference to it."""
        task = _OrderedTask(
            coro, len(self._tasks), loop=self, name=str(name or "task"), context=context
        )
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run a function at once where it was meant for a thread, whose time is not virtual."""
        if executor is not None and not isinstance(executor, ThreadPoolExecutor):
            return super().run_in_executor(executor, func, *args)
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def dispose(self) -> None:
        """Close all suspended tasks at the end of the run. Errors are ignored."""
        self.set_exception_handler(lambda *_: None)
        for task in self._tasks:
            coroutine = task.get_coro()
            if not task.done() and isinstance(coroutine, Coroutine):
                # A crash runs no `finally` block, so an error in one is irrelevant.
                with contextlib.suppress(Exception):
                    coroutine.close()
        self._tasks.clear()
        self._dropped.clear()
        self._waiting.clear()
        self._timers.clear()
        self.close()

    def _push(self, when: float, owner: Process | None, handle: asyncio.Handle) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, owner, handle))

    def _run_once(self) -> None:
        self._wake()
        if not self._waiting:
            if not self._timers:
                raise Stalled
            self._now = self._timers[0][0]
            self._wake()
        assert self.steps < _MAX_STEPS, "busy loop"
        self._run(*self._pick())
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        while self._timers and (self._timers[0][0] <= self._now or self._timers[0][3].cancelled()):
            _, _, owner, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._waiting.append((owner, handle))

    def _pick(self) -> _Entry:
        """Remove a random ready callback and return it."""
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
