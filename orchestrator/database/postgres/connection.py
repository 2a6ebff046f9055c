"""Connections to PostgreSQL that hang up when no answer comes.

No error tells of a network that swallows packets: the kernel waits for minutes, and for ever where something on the way
goes on acknowledging. So the time a transaction may take is measured here, in all and not for each statement: one that
trickles would keep its locks from the other replicas.

Only imported where the driver is installed.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import RV, PQGen
from psycopg.errors import ConnectionTimeout, QueryCanceled
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from orchestrator.foundation.clock import SystemClock

#: Seconds a transaction may take.
PATIENCE = 10.0

_clock = SystemClock()


class Connection(psycopg.Connection[TupleRow]):
    """Hangs up when a transaction has taken `PATIENCE` seconds, and raises `QueryCanceled`."""

    _ends = math.inf

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server. Who gives a time, as a listener does, is not hurried."""
        now = _clock.monotonic()
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            self._ends = now + PATIENCE
        left = max(0.0, self._ends - now)
        try:
            return super().wait(gen, interval, left if timeout is None else timeout)
        except psycopg.OperationalError as error:
            # A statement that is still under way did not fail: only the wait for it ended.
            if timeout is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()
            raise QueryCanceled(f"no answer within {PATIENCE:.0f} seconds") from error


class ConnectionFactory:
    """Makes an engine's connections. Where nobody answered, one at a time tries again, and others hear so at once."""

    def __init__(self) -> None:
        self._silent = False
        self._trying = threading.Lock()

    def __call__(
        self, _dialect: sa.Dialect, _record: object, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Connection:
        """Connect: SQLAlchemy's `do_connect`. Raises the driver's errors, `ConnectionTimeout` if nobody answers."""
        if not self._silent:
            return self._connect(args, named)
        if not self._trying.acquire(blocking=False):
            raise ConnectionTimeout("nobody answers")
        try:
            return self._connect(args, named)
        finally:
            self._trying.release()

    def _connect(self, args: tuple[Any, ...], named: dict[str, Any]) -> Connection:
        silent = False
        try:
            return Connection.connect(*args, **named)
        except ConnectionTimeout:
            silent = True
            raise
        finally:
            self._silent = silent
