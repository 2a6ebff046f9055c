"""Requests in bulk: the pauses that a server asks for are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.cli.failure import Failure

ResultT = TypeVar("ResultT")

#: Attempts at one request.
_TRIES = 6


def patiently(request: Callable[[], ResultT]) -> ResultT:
    """Return the result of a request that may be repeated; wait as the server asks (Retry-After).

    Raises the last `Failure`, and any that names no time.
    """
    for _ in range(_TRIES - 1):
        try:
            return request()
        except Failure as failure:
            if not failure.later:
                raise
            time.sleep(failure.later)
    return request()
