"""Wake-ups between replicas on PostgreSQL: NOTIFY makes the others look sooner; their own tick is the promise."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from orchestrator.database.unit_of_work import Tx

_CHANNEL = "orchestrator"
#: Seconds a listener waits before it looks whether it is to end.
_LOOK = 0.2
#: Looks after which it asks for a sign of life: silence sounds the same when nobody is there any more.
_ASK = 50


class NotifyChannel:
    """Tells other replicas that something is due, and hears it from them. All of it may be lost."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, heard: Callable[[str], object]) -> None:
        """Call `heard` with the name of each stage another replica woke, on a thread of its own."""
        self._thread = threading.Thread(
            target=self._listen, args=(heard,), name="wakes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self, heard: Callable[[str], object]) -> None:
        # The second is the driver's own, of a connection that ends while it listens.
        lost = (sa.exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error, OSError)
        while not self._ending.is_set():
            with contextlib.suppress(*lost), _listening(self._engine) as notices:
                while not self._ending.is_set():
                    for stage in notices():
                        heard(stage)
            self._ending.wait(1.0)


def wake(tx: Tx, stage: str) -> None:
    """Tell every other replica that a stage has work."""
    tx.execute(sa.text("SELECT pg_notify(:channel, :stage)"), {"channel": _CHANNEL, "stage": stage})


@contextlib.contextmanager
def _listening(engine: sa.Engine) -> Iterator[Callable[[], list[str]]]:
    """Listen on a connection of one's own; yield what returns the stages named meanwhile, if any."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
        driver, looks = connection.connection.driver_connection, itertools.count(1)
        assert driver is not None

        def look() -> list[str]:
            if next(looks) % _ASK == 0:
                connection.exec_driver_sql("SELECT 1")
            return [notice.payload for notice in driver.notifies(timeout=_LOOK)]

        try:
            yield look
        finally:
            # It must not go back among the others: it would go on gathering notices.
            connection.invalidate()
