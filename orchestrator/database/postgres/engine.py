"""PostgreSQL, shared by replicas: a few writing connections, and retries of lost transactions.

READ COMMITTED and SKIP LOCKED. A unit of work may be run again as a whole, so a deadlock, a
restart, a failover or a lost connection only costs time.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator.database.postgres import hosts
from orchestrator.database.statements import send
from orchestrator.database.unit_of_work import (
    BACKLOG,
    Tx,
    Unit,
    UnitResult,
    as_unavailable,
    call,
    is_outage,
    resolve_threadsafe,
    transient,
)
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.errors import ConfigError, Unavailable

#: Units that may share a commit.
GROUP = 128
#: Writing connections. More of them wait for each other's commits and load the server.
WRITERS = 4
#: Concurrent transactions of one batch. With more, each holds fewer items, at a higher total cost.
_CONCURRENT = 2
#: Seconds before each retry of a group after a transient error.
_RETRIES = (0.02, 0.1, 0.5)
#: A replica that freezes inside a transaction holds its locks: the server ends that transaction.
#: A unit takes milliseconds.
_LIMITS = {"idle_in_transaction_session_timeout": "10s"}
#: The server ends the connections of peers that are gone.
_KEEPALIVES = {
    "tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
}  # fmt: skip
#: The server itself ends what waits for a lock, before this side hangs up: after a hang-up it would
#: go on waiting.
_STATEMENT_TIMEOUT = {"statement_timeout": "8s"}
#: Connecting takes at most five seconds. This side too detects peers that are gone: what is sent
#: has to be acknowledged within `tcp_user_timeout` (milliseconds), and an idle connection probes.
#: Both end it while the transaction may still be run again on another server.
_CONNECT_ARGS = {
    "application_name": "orchestrator", "connect_timeout": 5, "tcp_user_timeout": 5_000,
    "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
}  # fmt: skip
#: Of each of several hosts: one that is gone must not keep the others waiting.
_HOST_TIMEOUT = {"connect_timeout": 3}
_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")


def is_postgres(url: str) -> bool:
    """True for the URL of a PostgreSQL database."""
    return url.partition(":")[0] in _SCHEMES


def url_of(url: str) -> sa.URL:
    """Return a PostgreSQL URL of any scheme as SQLAlchemy takes it. Raises `ConfigError`."""
    try:
        parsed = sa.make_url(hosts.in_query("postgresql+psycopg:" + url.partition(":")[2]))
        hosts.several(parsed)
    except (sa.exc.ArgumentError, ValueError) as error:
        # Without the URL: it holds a password.
        raise ConfigError(
            "database_url is no URL; write postgresql://user:password@host/database, or with "
            "several hosts postgresql://user:password@host1:5432,host2:5432/database"
        ) from error
    return parsed


def engine_of(
    url: str,
    connections: int,
    *,
    read_only: bool = False,
    timeouts: bool = True,
    pipelined: bool = False,
) -> sa.Engine:
    """Return an engine of up to so many connections.

    With `timeouts`, statements and transactions may take seconds. With `pipelined`, a statement
    whose result is not needed takes no round trip of its own. Raises `ConfigError` without the
    driver.
    """
    parsed = url_of(url)
    limits = _LIMITS | (_STATEMENT_TIMEOUT if timeouts else {})
    session = limits | _KEEPALIVES | ({"default_transaction_read_only": "on"} if read_only else {})
    own = parsed.normalized_query.get("options", ())
    # Options of the URL come last and take precedence; so do its other parameters.
    options = [*(f"-c {name}={value}" for name, value in session.items()), *own]
    args = _CONNECT_ARGS | (_HOST_TIMEOUT if hosts.several(parsed) else {})
    named = {name: value for name, value in args.items() if name not in parsed.query}
    named |= hosts.session_attributes(parsed, read_only=read_only)
    try:
        engine = sa.create_engine(
            parsed.difference_update_query(["options"]),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=5,
            # In a pipeline it is a round trip, even if there is nothing to roll back: see below.
            pool_reset_on_return=None if pipelined else "rollback",
            # Not used: its type would be looked up at each start.
            use_native_hstore=False,
            connect_args=named | {"options": " ".join(options)},
        )
        from orchestrator.database.postgres import failover
        from orchestrator.database.postgres.connection import ConnectionFactory
    except ModuleNotFoundError as error:
        raise ConfigError(
            "database_url: PostgreSQL needs its driver; install with the extra `postgres`"
        ) from error
    factory = ConnectionFactory(limited=timeouts, pipelined=pipelined)
    sa.event.listen(engine, "do_connect", factory)
    if pipelined:
        sa.event.listen(engine, "reset", lambda connection, *_: connection.reset())
    sa.event.listen(engine, "handle_error", failover.leave_reader if read_only else failover.leave)
    _limit_transactions(engine, limits | ({"transaction_read_only": "on"} if read_only else {}))
    if own:
        sa.event.listen(engine, "connect", _refuse_pooler)
    return engine


def _limit_transactions(engine: sa.Engine, limits: Mapping[str, str]) -> None:
    """Behind a pooler, limit each transaction: the settings of a session are lost there."""
    settings = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in limits.items())

    @sa.event.listens_for(engine, "begin")
    def begun(tx: Tx) -> None:
        driver: Any = tx.connection.driver_connection
        if is_pooled(tx):
            tx.exec_driver_sql(settings)
        elif getattr(driver, "pipelined", None) is not None:
            driver.begins()
            send(tx, "BEGIN", ())


def _refuse_pooler(connection: Any, _record: object) -> None:
    """Raise `ConfigError` behind a pooler: the options of the URL would be lost."""
    if connection.pooled:
        connection.close()
        raise ConfigError(
            "database_url: a connection pooler loses its options; set them for the user in the "
            "database (ALTER ROLE ... SET ...), or name the server itself"
        )


def is_pooled(tx: Tx) -> bool:
    """True if a connection pooler, as PgBouncer, stands between the server and us."""
    return bool(getattr(tx.connection.driver_connection, "pooled", False))


@contextlib.contextmanager
def as_config_error() -> Iterator[None]:
    """Raise errors of the server as `ConfigError`."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        hint = (
            "the server must be up and have such a database, and a user who may make tables in it"
        )
        raise ConfigError(f"database_url: {reason}; {hint}") from error


@contextlib.contextmanager
def read_only(url: str) -> Iterator[sa.Connection]:
    """Yield a read-only connection. Raises `ConfigError` if there is no such database."""
    engine = engine_of(url, 1, read_only=True)
    try:
        with as_config_error(), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


class Writers:
    """Threads that commit the waiting units, items of a batch together, until they are closed."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: deque[Unit] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"writer-{n}", daemon=True)
            for n in range(WRITERS)
        ]
        #: Transactions under way of each batch.
        self._busy: Counter[Callable[..., Any]] = Counter()
        #: True once a group has waited in vain for a server: until one answers, no other waits.
        self._down = False
        #: Transactions committed so far.
        self.commits = 0

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, unit: Unit) -> None:
        """Queue a unit. Raises `Unavailable` if the writers are closed or the backlog is full."""
        with self._changed:
            if self._stopping.is_set():
                raise Unavailable("the database is closed")
            if len(self._waiting) >= BACKLOG:
                raise Unavailable("the database is not keeping up")
            self._waiting.append(unit)
            self._changed.notify()

    def refuse(self) -> None:
        """Refuse new units; the threads commit what waits."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()

    def close(self) -> None:
        """Commit what waits, and refuse new units."""
        self.refuse()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while group := self._take():
            resolve_threadsafe(self._commit(group))
            self._done(group[0])

    def _take(self) -> list[Unit]:
        """Return a unit, or the waiting items of a batch; nothing once the writers are closed.

        One call per transaction: its locks are taken in the order of that call, so two replicas
        cannot deadlock.
        """
        with self._changed:
            while (first := self._first()) is None:
                if self._stopping.is_set() and not self._waiting:
                    self._changed.notify_all()
                    return []
                self._changed.wait()
            group = [first]
            if first.item:
                self._busy[first.run] += 1
                group = [unit for unit in self._waiting if unit.item and unit.run == first.run][
                    :GROUP
                ]
            taken = set(map(id, group))
            self._waiting = deque(unit for unit in self._waiting if id(unit) not in taken)
            return group

    def _first(self) -> Unit | None:
        """Return the oldest unit whose batch may start another transaction, if any."""
        return next(
            (unit for unit in self._waiting if not unit.item or self._busy[unit.run] < _CONCURRENT),
            None,
        )

    def _done(self, first: Unit) -> None:
        if first.item:
            with self._changed:
                self._busy[first.run] -= 1
                self._changed.notify()

    def _commit(self, group: list[Unit]) -> list[UnitResult]:
        for wait in (*_RETRIES, None):
            try:
                with self._engine.begin() as tx:
                    if not any(unit.durable for unit in group):
                        send(tx, "SET LOCAL synchronous_commit = off", ())
                    results = call(tx, group)
            except BaseException as error:
                lost = getattr(error, "connection_invalidated", False)
                if wait is None or not transient(error) or (lost and self._down):
                    self._down = lost
                    if len(group) > 1 and not is_outage(error):
                        return [result for unit in group for result in self._commit([unit])]
                    return [UnitResult(unit, error=as_unavailable(error)) for unit in group]
                # Ends early on close: the remaining retries then follow at once.
                self._stopping.wait(wait)
            else:
                self._down = False
                self.commits += 1
                return results
        raise AssertionError("the last retry returns")


def server_time(tx: Tx) -> datetime:
    """Return the current instant by the clock of the server."""
    ms = tx.execute(
        sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    ).scalar_one()
    return EPOCH + timedelta(milliseconds=ms)
