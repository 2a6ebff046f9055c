"""Wake-ups between replicas by NOTIFY. Best effort: the tick of a replica finds the work anyway.

Behind a connection pooler there are only ticks: nothing can be received there.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import sqlalchemy as sa
import structlog

from orchestrator.database.postgres.engine import is_pooled
from orchestrator.database.unit_of_work import Tx

log = structlog.get_logger()

_CHANNEL = "orchestrator"
#: Seconds a listener waits before it checks for close.
_INTERVAL = 0.2
#: Intervals after which it probes the connection: a dead one would look idle.
_PROBE = 50


class _Pooled(Exception):
    """A pooler stands between."""


class NotifyChannel:
    """Receives the wake-ups of other replicas. Any of them may be lost."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, notify: Callable[[str], object]) -> None:
        """Call `notify`, on a new thread, with each stage that another replica woke."""
        self._thread = threading.Thread(
            target=self._listen, args=(notify,), name="wakes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self, notify: Callable[[str], object]) -> None:
        # The second is the driver's, of a connection that ends while it listens.
        lost = (sa.exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error, OSError)
        while not self._closing.is_set():
            try:
                with contextlib.suppress(*lost), _listening(self._engine) as stages:
                    while not self._closing.is_set():
                        for stage in stages():
                            notify(stage)
            except _Pooled:
                log.info("behind a connection pooler other processes are woken by their ticks")
                return
            self._closing.wait(1.0)


def wake(tx: Tx, stage: str) -> None:
    """Wake a stage in every other replica."""
    tx.execute(sa.text("SELECT pg_notify(:channel, :stage)"), {"channel": _CHANNEL, "stage": stage})


@contextlib.contextmanager
def _listening(engine: sa.Engine) -> Iterator[Callable[[], list[str]]]:
    """Listen on a new connection; yield a function that returns the stages named since.

    Raises `_Pooled`.
    """
    with engine.connect() as connection:
        if is_pooled(connection):
            raise _Pooled
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
        driver, calls = connection.connection.driver_connection, itertools.count(1)
        assert driver is not None

        def stages() -> list[str]:
            if next(calls) % _PROBE == 0:
                connection.exec_driver_sql("SELECT 1")
            return [notice.payload for notice in driver.notifies(timeout=_INTERVAL)]

        try:
            yield stages
        finally:
            # Not back into the pool: it would go on receiving notifications.
            connection.invalidate()
