"""Connections to PostgreSQL that give up when no answer comes, and that find a pooler.

A network that drops packets causes no error: the kernel waits for minutes, or for ever where a
middlebox goes on acknowledging. So the time of a transaction is limited here, as a whole and not
per statement: a slow one would keep its locks from the other replicas.

Behind a pooler such as PgBouncer in transaction mode a connection is no session: each transaction
may run in another one, that other clients use too. So nothing of ours may outlast a transaction: no
prepared statement, no setting, no LISTEN
(https://www.pgbouncer.org/features.html#sql-feature-map-for-pooling-modes).

Imported only where the driver is installed.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable
from typing import Any, Self

import psycopg
import sqlalchemy as sa
from psycopg import generators
from psycopg.abc import RV, Params, PQGen, Query
from psycopg.errors import ConnectionTimeout, InFailedSqlTransaction, QueryCanceled
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from orchestrator.database.postgres import hosts
from orchestrator.foundation.clock import SystemClock

#: Seconds.
TRANSACTION_TIMEOUT = 10.0
#: Statements that a connection keeps prepared.
PREPARED = 500
#: In the words of a pooler that takes no settings of a session.
_REFUSAL = "unsupported startup parameter"

_clock = SystemClock()


class Cursor(psycopg.Cursor[TupleRow]):
    """In a pipeline it waits for the results of what it executes, as SQLAlchemy expects."""

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> Self:
        super().execute(query, params, **options)
        self._await_results()
        return self

    def executemany(self, query: Query, params_seq: Iterable[Params], **options: Any) -> None:
        super().executemany(query, params_seq, **options)
        self._await_results()

    def _await_results(self) -> None:
        if isinstance(self.connection, Connection):
            self.connection.sync()


class Connection(psycopg.Connection[TupleRow]):
    """Closes and raises `QueryCanceled` when a transaction takes `TRANSACTION_TIMEOUT` seconds.

    `limited` is False for one whose transactions may take as long as they need.
    """

    limited = True
    #: True if a pooler stands between the server and us.
    pooled = False
    #: The pipeline that all statements are in, if any.
    pipelined: psycopg.Pipeline | None = None
    _ends = math.inf
    _has_begun = False

    def begin_pipeline(self) -> None:
        """Pipeline all statements from now on, until the connection is closed.

        A statement then travels with later ones: `execute` does not wait for its result, which a
        fetch does. Transactions are begun by a statement too.
        """
        self.autocommit = True
        self.prepared_max = PREPARED
        # Not by `pipeline()`: to leave its context is a round trip, which each commit would pay.
        self._pipeline = self.pipelined = psycopg.Pipeline(self).__enter__()

    def execute(self, query: Any, params: Params | None = None, **options: Any) -> Any:
        """Return the cursor of a statement with `$1` parameters; in a pipeline before its result.

        A fetch waits for that.
        """
        return self.raw_cursor().execute(query, params, **options)

    def raw_cursor(self) -> psycopg.RawCursor[TupleRow]:
        """Return a cursor that takes `$1` parameters."""
        return psycopg.RawCursor(self)

    def commit(self) -> None:
        """Commit. Raises the first error of the statements that are under way."""
        if self.pipelined is None:
            super().commit()
            return
        # Whether there is a transaction is known only where the pipeline has been synced.
        committed = self.execute("COMMIT")
        self.sync()
        if committed.statusmessage != "COMMIT":
            # The server rolls back a transaction that has failed, and reports no error.
            raise InFailedSqlTransaction("the transaction had failed before its commit")
        self._has_begun = False

    def rollback(self) -> None:
        """Roll back. The errors of statements that are under way are of no interest any more."""
        with contextlib.suppress(psycopg.Error):
            self.sync()
        super().rollback()
        self._has_begun = False

    def reset(self) -> None:
        """Roll back what was begun and did not end, before another uses the connection."""
        if self.pipelined is None or self._has_begun:
            self.rollback()

    def sync(self) -> None:
        """Wait for the results of all statements in the pipeline, if there is one."""
        if self.pipelined is not None:
            # `Pipeline.sync` waits for results even if not everything fitted into the socket, and
            # the server for the rest.
            self.wait(generators.send(self.pgconn))
            self.pipelined.sync()

    def begins(self) -> None:
        """Note that a transaction begins: from now on its time is limited."""
        self._ends = _clock.monotonic() + TRANSACTION_TIMEOUT
        self._has_begun = True

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server. With a `timeout`, as of a listener, the limit does not apply."""
        if not self.limited:
            return super().wait(gen, interval, timeout)
        if self.pipelined is None and self.pgconn.transaction_status == TransactionStatus.IDLE:
            self.begins()
        left = max(0.0, self._ends - _clock.monotonic())
        try:
            return super().wait(gen, interval, left if timeout is None else timeout)
        except psycopg.OperationalError as error:
            # A statement that is still active did not fail: only the wait for it ended.
            if timeout is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()
            raise QueryCanceled(f"no answer within {TRANSACTION_TIMEOUT:.0f} seconds") from error


class ConnectionFactory:
    """Makes connections (a circuit breaker): after a timeout one at a time tries, others fail.

    Of several hosts, the one that took the newest connection is tried first, and one that does not
    answer last: a server that is gone costs its timeout once, not at every connection.

    `limited`: their transactions are limited in time. `pipelined`: their statements are pipelined,
    unless a pooler stands between.
    """

    def __init__(self, *, limited: bool, pipelined: bool = False) -> None:
        self._limited = limited
        self._pipelined = pipelined
        self._silent = False
        self._trying = threading.Lock()
        #: The hosts, in the order of the next connection.
        self._hosts: list[dict[str, str]] = []
        #: True once a pooler has refused our settings of a session.
        self._refused = False

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
            connection = self._first(args, named)
        except ConnectionTimeout:
            silent = True
            raise
        finally:
            self._silent = silent
        connection.limited = self._limited
        connection.cursor_factory = Cursor
        try:
            connection.pooled = _is_pooled(connection)
            if self._pipelined and not connection.pooled:
                connection.begin_pipeline()
        except psycopg.Error:
            connection.close()
            raise
        if connection.pooled:
            connection.prepare_threshold = None
        return connection

    def _first(self, args: tuple[Any, ...], named: dict[str, Any]) -> Connection:
        """Connect to the first host that takes the connection."""
        order = self._hosts or hosts.split(named)
        answered, silent = list[dict[str, str]](), list[dict[str, str]]()
        reasons: list[str] = []
        for host in order:
            try:
                connection = self._opened(args, named | host)
            except psycopg.OperationalError as error:
                if len(order) == 1:
                    raise
                (silent if isinstance(error, ConnectionTimeout) else answered).append(host)
                reasons.append(f"{host['host']}:{host['port']}: {error}")
            else:
                self._hosts = [host, *(other for other in order if other != host)]
                return connection
        self._hosts = [*answered, *silent]
        raise (ConnectionTimeout if silent else psycopg.OperationalError)("; ".join(reasons))

    def _opened(self, args: tuple[Any, ...], named: dict[str, Any]) -> Connection:
        bare = {name: value for name, value in named.items() if name != "options"}
        if self._refused:
            return Connection.connect(*args, **bare)
        try:
            return Connection.connect(*args, **named)
        except psycopg.OperationalError as error:
            if _REFUSAL not in str(error):
                raise
        connection = Connection.connect(*args, **bare)
        self._refused = True
        return connection


def _is_pooled(connection: Connection) -> bool:
    """True if another process answers than the one that was announced when we connected.

    A pooler announces one of its own making, since it has to pass on requests to cancel.
    """
    answering = connection.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    return bool(answering != (connection.info.backend_pid,))
