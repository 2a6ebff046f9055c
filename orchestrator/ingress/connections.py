"""The connections of one server: their limit, and the timer of their deadlines.

One timer for all: a uvloop timer takes 20 µs to arm and disarm, and a request would need two.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Protocol

import structlog

from orchestrator.foundation.settings.http import Http
from orchestrator.ingress.phase import patience

log = structlog.get_logger()

#: Seconds between two looks at the deadlines, which may pass that much later.
GRAIN = 0.5


class Connection(Protocol):
    """What a connection does at the registry's word."""

    def evict(self) -> None:
        """Close at once, to make room."""

    def expire(self, now: float) -> None:
        """Close if a deadline has passed."""


class Connections:
    """The open connections. At the limit, the one that has been unused longest is closed."""

    def __init__(self, limits: Http) -> None:
        self.limit = limit_of(limits)
        self.patience = patience(limits)
        self._open: set[Connection] = set()
        #: Those without a complete request head, oldest first (an ordered set).
        self._unused: dict[Connection, None] = {}
        self._refused = 0
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Add a new connection; False if every other one is in the middle of a request."""
        if len(self._open) >= self.limit:
            oldest = next(iter(self._unused), None)
            if oldest is None:
                self._refused += 1
                return False
            self.remove(oldest)
            oldest.evict()
        self._open.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(GRAIN, self._sweep, loop)
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        self._unused.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Note that a connection has no request from now on."""
        self._unused.pop(connection, None)
        if connection in self._open:
            self._unused[connection] = None

    def used(self, connection: Connection) -> None:
        """Note that the head of a request is complete."""
        self._unused.pop(connection, None)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in [*self._open]:
            connection.expire(now)
        if self._refused:
            log.warning("connections were refused", count=self._refused, limit=self.limit)
            self._refused = 0
        self._timer = loop.call_later(GRAIN, self._sweep, loop) if self._open else None


def limit_of(limits: Http) -> int:
    """Return the connection limit: half of the files are for databases and outgoing requests."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    bounded = files != resource.RLIM_INFINITY
    return max(1, min(limits.max_connections, files // 2)) if bounded else limits.max_connections
