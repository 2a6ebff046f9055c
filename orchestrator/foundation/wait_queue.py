"""Waiters for the same news, woken a few per iteration of the event loop.

An `asyncio.Event` wakes all at once. A thousand streams that then write a large event each would
keep everything else from the loop for seconds.
"""

from __future__ import annotations

import asyncio
from itertools import islice

#: Waiters that are woken in one iteration of the loop.
AT_ONCE = 16


class WaitQueue:
    """Used on one event loop."""

    def __init__(self) -> None:
        #: In the order in which they came; the value is not used.
        self._waiting: dict[asyncio.Future[None], None] = {}
        #: Waiters that are being woken.
        self._due: dict[asyncio.Future[None], None] = {}
        self._waking = False

    async def wait(self) -> None:
        """Return after the next `wake`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        try:
            await future
        finally:
            # One that is canceled is in either.
            self._waiting.pop(future, None)
            self._due.pop(future, None)

    def wake(self) -> None:
        """Wake those that wait now, the first of them at once."""
        self._due |= self._waiting
        self._waiting.clear()
        if self._due and not self._waking:
            self._next(asyncio.get_running_loop())

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        for future in list(islice(self._due, AT_ONCE)):
            del self._due[future]
            if not future.done():
                future.set_result(None)
        self._waking = bool(self._due)
        if self._waking:
            loop.call_soon(self._next, loop)
