"""PostgreSQL, which N replicas share: a few writing connections, and retries of what the server takes back.

READ COMMITTED and SKIP LOCKED. A unit of work may be run again whole, so a deadlock, a restart or a lost connection
costs a moment and nothing else.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator.database.unit_of_work import (
    BACKLOG,
    Tx,
    Unit,
    UnitResult,
    ours,
    perform,
    settle,
    transient,
)
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.errors import ConfigError, Unavailable

#: Units that may share one commit.
GROUP = 128
#: Connections that write. More would wait for each other's commits no less, and take more of the server.
WRITERS = 4
#: Transactions that may hold items of one batch. With more, each holds fewer, and all of them cost more.
_ABREAST = 2
#: Seconds before each further try of a group that the server took back.
_TRIES = (0.02, 0.1, 0.5)
#: A replica that freezes inside a transaction holds its locks. The server ends that transaction, and the connections
#: of peers that are gone; a unit takes milliseconds.
_ENDS = (
    "-c idle_in_transaction_session_timeout=10s -c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5"
    " -c tcp_keepalives_count=3"
)
#: What waits for a lock is ended by the server itself, and sooner than we hang up: from a peer that hung up, it would
#: go on waiting there.
_HURRY = "-c statement_timeout=8s"
#: Connecting takes at most five seconds, and our end notices too that a peer is gone: on a connection that nobody uses,
#: and of what was sent (milliseconds).
_NAMED = {
    "application_name": "orchestrator", "connect_timeout": 5, "tcp_user_timeout": 10_000,
    "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3,
}  # fmt: skip
_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")


def is_postgres(url: str) -> bool:
    """True for the URL of a PostgreSQL database."""
    return url.partition(":")[0] in _SCHEMES


def url_of(url: str) -> sa.URL:
    """Return a PostgreSQL URL as SQLAlchemy takes it, whichever way it is spelt. Raises `ConfigError`."""
    try:
        return sa.make_url("postgresql+psycopg:" + url.partition(":")[2])
    except (sa.exc.ArgumentError, ValueError) as error:
        # Not the URL itself: it holds a password.
        raise ConfigError(
            "database_url is no URL; write postgresql://user:password@host/database"
        ) from error


def engine_of(
    url: str, connections: int, *, read_only: bool = False, patient: bool = False
) -> sa.Engine:
    """Return an engine of up to so many connections, whose transactions may take seconds unless it is patient.

    Raises `ConfigError` where the driver is missing.
    """
    parsed = url_of(url)
    options = [_ENDS]
    if read_only:
        options.append("-c default_transaction_read_only=on")
    if not patient:
        options.append(_HURRY)
    # The URL's own come last, and win; so do its other words.
    options += parsed.normalized_query.get("options", ())
    named = {word: value for word, value in _NAMED.items() if word not in parsed.query}
    try:
        engine = sa.create_engine(
            parsed.difference_update_query(["options"]),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=5,
            connect_args=named | {"options": " ".join(options)},
        )
        from orchestrator.database.postgres.connection import ConnectionFactory
    except ModuleNotFoundError as error:
        raise ConfigError(
            "database_url: PostgreSQL needs its driver; install with the extra `postgres`"
        ) from error
    if not patient:
        sa.event.listen(engine, "do_connect", ConnectionFactory())
    return engine


@contextlib.contextmanager
def as_config_error() -> Iterator[None]:
    """Raise what the server says as `ConfigError`."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        words = " ".join(str(error.orig).split())
        hint = (
            "the server must be up and have such a database, and a user who may make tables in it"
        )
        raise ConfigError(f"database_url: {words}; {hint}") from error


@contextlib.contextmanager
def reached(url: str) -> Iterator[sa.Connection]:
    """Yield a connection that cannot write. Raises `ConfigError` if there is no such database."""
    engine = engine_of(url, 1, read_only=True)
    try:
        with as_config_error(), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


class Writers:
    """Threads that take what waits and commit it, items of one batch together, until they are closed."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: deque[Unit] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"writer-{n}", daemon=True)
            for n in range(WRITERS)
        ]
        #: How many transactions hold items of a batch now.
        self._busy: Counter[Callable[..., Any]] = Counter()
        #: Transactions committed, for the bench.
        self.commits = 0

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def put(self, unit: Unit) -> None:
        """Hand over a unit. Raises `Unavailable` for one that comes too late or stands too far back."""
        with self._changed:
            if self._stopping.is_set():
                raise Unavailable("the database is closed")
            if len(self._waiting) >= BACKLOG:
                raise Unavailable("the database is not keeping up")
            self._waiting.append(unit)
            self._changed.notify()

    def close(self) -> None:
        """Finish what waits, and let nothing new in."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self) -> None:
        while group := self._take():
            _tell(self._commit(group))
            self._done(group[0])

    def _take(self) -> list[Unit]:
        """Return a unit, and with an item of a batch its neighbours; nothing once it is time to end.

        One call to a transaction: locks are then taken in the order of that call, and two replicas cannot cross.
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
        """Return the oldest unit that need not wait for its neighbours to gather; None if there is none."""
        return next(
            (unit for unit in self._waiting if not unit.item or self._busy[unit.run] < _ABREAST),
            None,
        )

    def _done(self, first: Unit) -> None:
        if first.item:
            with self._changed:
                self._busy[first.run] -= 1
                self._changed.notify()

    def _commit(self, group: list[Unit]) -> list[UnitResult]:
        for wait in (*_TRIES, None):
            try:
                with self._engine.begin() as tx:
                    if not any(unit.lasting for unit in group):
                        tx.exec_driver_sql("SET LOCAL synchronous_commit = off")
                    outcomes = perform(tx, group)
            except BaseException as error:
                if wait is None or not transient(error):
                    return [UnitResult(unit, error=ours(error)) for unit in group]
                # Cut short when we are told to end; the last tries then follow at once.
                self._stopping.wait(wait)
            else:
                self.commits += 1
                return outcomes
        raise AssertionError("the last try returns")


def _tell(outcomes: list[UnitResult]) -> None:
    """Hand outcomes to the loop that waits for them."""
    loop = outcomes[0].unit.future.get_loop()
    # The loop may be gone, and with it who waited; what was committed stays committed.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle, outcomes)


def server_time(tx: Tx) -> datetime:
    """Return the instant by the server's clock."""
    ms = tx.execute(
        sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    ).scalar_one()
    return EPOCH + timedelta(milliseconds=ms)
