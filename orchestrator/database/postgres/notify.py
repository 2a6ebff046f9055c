"""Wake-ups between replicas by NOTIFY. Best effort: the tick of a replica finds the work anyway.

The connection that listens is also the session of the process, whose lock shows that it lives.
Behind a connection pooler there is no session: only ticks and leases.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import sqlalchemy as sa
import structlog

from orchestrator.database.membership import UNBOUND, Membership
from orchestrator.database.postgres.engine import is_pooled
from orchestrator.database.postgres.session import Session
from orchestrator.database.unit_of_work import Tx

log = structlog.get_logger()

_CHANNEL = "orchestrator"
#: Seconds a listener waits before it checks for close.
_INTERVAL = 0.2
#: Intervals after which it probes the connection: a dead one would look idle.
_PROBE = 2
#: Seconds until it connects again. The grace of other processes is longer.
_RETRY = 0.5
#: Seconds that a start waits for its number.
_FIRST = 5.0


class _Pooled(Exception):
    """A pooler stands between."""


class NotifyChannel:
    """Receives the wake-ups of other replicas. Any of them may be lost."""

    def __init__(self, engine: sa.Engine, membership: Membership) -> None:
        self._engine = engine
        self._membership = membership
        self._session = Session(membership)
        self._entered = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, notify: Callable[[str], object]) -> None:
        """Call `notify`, on a new thread, with each stage that another replica woke.

        Return when this process has a number to claim with, or is fenced until it has one.
        """
        self._membership.fence()
        self._thread = threading.Thread(
            target=self._listen, args=(notify,), name="wakes", daemon=True
        )
        self._thread.start()
        self._entered.wait(_FIRST)

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self, notify: Callable[[str], object]) -> None:
        fenced = False
        while not self._closing.is_set():
            try:
                with _listening(self._engine, self._session) as stages:
                    fenced = False
                    self._entered.set()
                    while not self._closing.is_set():
                        for stage in stages():
                            notify(stage)
            except _Pooled:
                log.info("behind a connection pooler there are only ticks and leases")
                self._membership.confirm(UNBOUND)
                self._entered.set()
                return
            except Exception as error:
                # Whatever it is: without this thread the process would be fenced for ever.
                if not fenced:
                    log.warning("fenced until the database answers", error=_words(error))
                fenced = True
            self._closing.wait(_RETRY)


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())


def wake(tx: Tx, stage: str) -> None:
    """Wake a stage in every other replica."""
    tx.execute(sa.text("SELECT pg_notify(:channel, :stage)"), {"channel": _CHANNEL, "stage": stage})


@contextlib.contextmanager
def _listening(engine: sa.Engine, session: Session) -> Iterator[Callable[[], list[str]]]:
    """Listen on a new connection; yield a function that returns the stages named since.

    Raises `_Pooled`, and `ConnectionError` while the server sees an older session of this process.
    """
    with engine.connect() as connection:
        if is_pooled(connection):
            raise _Pooled
        connection.execution_options(isolation_level="AUTOCOMMIT")
        try:
            if not session.enter(connection):
                raise ConnectionError("the server still sees the session before this one")
            connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
            driver, calls = connection.connection.driver_connection, itertools.count(1)
            assert driver is not None

            def stages() -> list[str]:
                if next(calls) % _PROBE == 0:
                    session.confirm(connection)
                return [notice.payload for notice in driver.notifies(timeout=_INTERVAL)]

            yield stages
        finally:
            session.fence()
            # Not back into the pool: it may hold our lock, and would go on receiving notifications.
            connection.invalidate()
