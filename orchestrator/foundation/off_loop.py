"""Work on large bodies in a thread, so that none of it blocks the event loop.

One thread for the process: a parsed body may take thirty times the memory of its text, and so only
one is in work at a time. The event loop gets the interpreter's lock between the calls into C that
such work consists of: each takes up to 50 ms for 1 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes of a large body. To hand a smaller one to a thread would cost more than the work on it.
LARGE = 16 << 10

_thread = ThreadPoolExecutor(1, "large bodies")


async def run(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `work(*args, **kwargs)` for a body of `size` bytes. Raises what the work raises."""
    if size < LARGE:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_thread, lambda: work(*args, **kwargs))
