"""The thread on which libraries of brokers run, on a loop of its own that guards their sockets.

A library that blocks, or leaves callbacks behind, then holds up no push and no HTTP delivery; and
the service's own loop (uvloop) need not be guarded. The thread starts with the first call: a
service without brokers has none.

Calls and results cross in batches. Each crossing writes to the other loop's self-pipe, which costs
more than the call; so calls that are made before the other side has looked share one crossing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.guarded_loop import GuardedLoop
from orchestrator.foundation.timeouts import Timeouts

T = TypeVar("T")

#: Seconds for which a stop waits for the thread. It is a daemon: one that hangs delays no exit.
_JOIN: Final = 5.0
#: Seconds that canceled work has to end.
_END: Final = 2.0


class _Ended(ConnectionAbortedError):
    """The work was canceled over there, or tried to end the thread."""


class _Crossing:
    """Callbacks for another thread's loop, run in order; many for one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._is_awake = False

    def put(self, callback: Callable[[], object]) -> None:
        """Run a callback there soon. Nothing happens if that loop has ended."""
        with self._lock:
            self._waiting.append(callback)
            if self._is_awake:
                return
            self._is_awake = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        with self._lock:
            ready, self._waiting = self._waiting, deque()
            self._is_awake = False
        for callback in ready:
            callback()


class _Call:
    """One coroutine that runs over there for a future over here."""

    __slots__ = ("_future", "_is_canceled", "_make", "_task")

    def __init__(
        self, make: Callable[[], Coroutine[Any, Any, Any]], future: asyncio.Future[Any]
    ) -> None:
        self._make = make
        self._future = future
        self._task: asyncio.Task[Any] | None = None
        self._is_canceled = False

    def start(self, back: _Crossing) -> asyncio.Task[Any] | None:
        """Start it, over there."""
        if self._is_canceled:
            return None
        loop = asyncio.get_running_loop()
        # In an empty context: that of the callback is of whichever call made the crossing.
        self._task = task = loop.create_task(self._make(), context=Context())
        task.add_done_callback(lambda done: back.put(lambda: self._settle(done)))
        return task

    def cancel(self) -> None:
        """Cancel it, over there."""
        self._is_canceled = True
        if self._task is not None:
            self._task.cancel()

    def _settle(self, done: asyncio.Task[Any]) -> None:
        """Pass the result on, over here."""
        error = None if done.cancelled() else done.exception()
        if self._future.done():
            return
        if done.cancelled() or not isinstance(error, Exception | None):
            self._future.set_exception(_Ended("the work was ended"))
        elif error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(done.result())


class BrokerLoop:
    """Runs coroutines on the guarded loop of one thread, for the loop that calls.

    It serves one calling loop at a time.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._timeouts = Timeouts()
        self._loop: GuardedLoop | None = None
        self._thread: threading.Thread | None = None
        self._there: _Crossing | None = None
        self._back: _Crossing | None = None
        self._caller: asyncio.AbstractEventLoop | None = None
        #: The loop keeps weak references to tasks alone.
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_running(self) -> bool:
        """True once something ran."""
        return self._thread is not None

    async def run(self, make: Callable[[], Coroutine[Any, Any, T]], deadline: float) -> T:
        """Return what the coroutine of `make` returns over there; raise what it raises.

        After `deadline` seconds, and if the caller is canceled, it is canceled; `TimeoutError` is
        then raised here even if it, or the whole thread, does not end.
        """
        here = asyncio.get_running_loop()
        there, back = self._start(here)
        future: asyncio.Future[T] = here.create_future()
        call = _Call(make, future)
        there.put(lambda: self._begin(call, back))
        try:
            async with self._timeouts.within(deadline):
                return await future
        finally:
            if not future.done() or future.cancelled():
                there.put(call.cancel)

    async def aclose(self) -> None:
        """Cancel what runs, and end the thread. It starts again with the next call."""
        thread, loop, self._thread, self._loop = self._thread, self._loop, None, None
        if thread is None or loop is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.get_running_loop().run_in_executor(None, thread.join, _JOIN)

    def _start(self, here: asyncio.AbstractEventLoop) -> tuple[_Crossing, _Crossing]:
        if self._loop is None:
            self._loop = loop = GuardedLoop(self._policy)
            self._there = _Crossing(loop)
            self._thread = threading.Thread(
                target=_serve, args=(loop,), name="brokers", daemon=True
            )
            self._thread.start()
        if self._caller is not here:
            self._caller, self._back = here, _Crossing(here)
        assert self._there is not None
        assert self._back is not None
        return self._there, self._back

    def _begin(self, call: _Call, back: _Crossing) -> None:
        if (task := call.start(back)) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _serve(loop: GuardedLoop) -> None:
    """Run the loop until it is stopped; then cancel what is left."""
    asyncio.set_event_loop(loop)
    try:
        while True:
            # A library may not end the thread.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                loop.run_forever()
                break
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=_END))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
