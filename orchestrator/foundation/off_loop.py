"""Work on large bodies in threads, so that none of it blocks the event loop.

One thread for each side from which bodies come, so that no side delays another; not more, because a
parsed body may take thirty times the memory of its text. The event loop gets the interpreter's lock
between the calls into C that such work consists of: each takes up to 50 ms for 1 MiB. Garbage
collection is paused meanwhile: begun by a parse, it would walk half a million new values, or all
objects of a host application, within that call.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes of a large body. To hand a smaller one to a thread would cost more than the work on it.
LARGE = 16 << 10


class _Collection:
    """Garbage collection, which any of several threads pauses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses = 0
        self._was_enabled = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause it during the block. A host application that disabled it finds it disabled."""
        with self._lock:
            if not self._pauses:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._pauses += 1
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if not self._pauses and self._was_enabled:
                    gc.enable()


_collection = _Collection()


class Line:
    """One thread, for which parties take turns: each has one piece of work in its queue.

    So a piece of work waits for one of every other party, and for those of its own party before it.
    """

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        #: The turn of each party that has work, in each event loop: a lock serves one loop.
        self._turns = WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock]()

    async def run(
        self, party: str, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return `work(*args, **kwargs)` for a body of `size` bytes. Raises what the work raises.

        `party` is whose work it is: the text names it in this line alone.
        """
        if size < LARGE:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        async with self._turns.setdefault((loop, party), asyncio.Lock()):
            return await loop.run_in_executor(self._thread, _uncollected, work, args, kwargs)


def _uncollected(work: Callable[..., T], args: Any, kwargs: Any) -> T:
    with _collection.paused():
        return work(*args, **kwargs)


#: Bodies of API requests, and jobs that become requests to vendors. A party is an API key.
callers = Line("bodies of callers")
#: Pushes and responses of vendors. A party is an account.
vendors = Line("bodies of vendors")
#: Events that become requests to receivers. A party is a subscriber.
receivers = Line("bodies for receivers")
