"""Connections to PostgreSQL that give up when no answer comes.

A network that drops packets causes no error: the kernel waits for minutes, or for ever where a
middlebox goes on acknowledging. So the time of a transaction is limited here, as a whole and not
per statement: a slow one would keep its locks from the other replicas.

Imported only where the driver is installed.
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

#: Seconds.
TRANSACTION_TIMEOUT = 10.0

_clock = SystemClock()


class Connection(psycopg.Connection[TupleRow]):
    """Closes and raises `QueryCanceled` when a transaction takes `TRANSACTION_TIMEOUT` seconds."""

    _ends = math.inf

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server. With a `timeout`, as of a listener, the limit does not apply."""
        now = _clock.monotonic()
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            self._ends = now + TRANSACTION_TIMEOUT
        left = max(0.0, self._ends - now)
        try:
            return super().wait(gen, interval, left if timeout is None else timeout)
        except psycopg.OperationalError as error:
            # A statement that is still active did not fail: only the wait for it ended.
            if timeout is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()
            raise QueryCanceled(f"no answer within {TRANSACTION_TIMEOUT:.0f} seconds") from error


class ConnectionFactory:
    """Makes connections (a circuit breaker): after a timeout one at a time tries, others fail."""

    def __init__(self) -> None:
        self._silent = False
        self._trying = threading.Lock()

    def __call__(
        self, _dialect: sa.Dialect, _record: object, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Connection:
        """Connect (SQLAlchemy's `do_connect`). Raises the errors of the driver."""
        if not self._silent:
            return self._connect(args, named)
        if not self._trying.acquire(blocking=False):
            raise ConnectionTimeout("the server does not answer")
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
