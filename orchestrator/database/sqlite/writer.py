"""The writing side of SQLite: one connection, and group commit.

Statements run on the event loop, durable commits on a thread. A statement takes microseconds and
needs the GIL anyway: on another thread it would compete with the loop for it, which costs more than
the statement. So does a commit that does not wait for the disk, as one of nothing. A durable one
waits without the GIL, while the loop collects the next group.

A lone unit has no next group, and with a quick disk its commit costs less than to hand it to the
thread: it stays on the loop as long as no commit took longer lately. Only the thread checkpoints.

The loop never waits for a lock: a group that finds another program writing runs on the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, cast

import sqlalchemy as sa

from orchestrator.database.sqlite.engine import (
    checkpoint_with_commit,
    is_locked,
    wait_for_disk,
    wait_for_locks,
)
from orchestrator.database.unit_of_work import (
    BACKLOG,
    Unit,
    UnitResult,
    execute,
    raising_unavailable,
    resolve,
    resolve_threadsafe,
)
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.errors import Unavailable

#: Units that may share a commit; more wait for the next. Their statements block the loop.
GROUP = 128
#: Seconds that units wait while another program writes.
LOCK_TIMEOUT = 5.0
#: Seconds of a quick commit: what it costs to hand one to the thread, twice.
QUICK = 0.002
#: Commits on the loop that wrote, in a row; then the next durable one may checkpoint.
_IN_A_ROW = 64
#: How long commits take is the longest, and that counts less with each later one.
_FADES = 0.9

_clock = SystemClock()


class _Locked(Unavailable):
    """Another program writes to the database."""


class Writer:
    """Commits units in order, until it is closed. Used from one event loop.

    `check` raises `Unavailable` if the open file is not the one at the path. `quick` is how many
    seconds a commit on the loop may have taken lately.
    """

    def __init__(
        self,
        engine: sa.Engine,
        thread: Executor,
        check: Callable[[], None] = lambda: None,
        quick: float = QUICK,
    ) -> None:
        self._engine = engine
        #: Kept between transactions: to make one costs more than to begin and to commit.
        self._connection: sa.Connection | None = None
        self._check = check
        self._quick = quick
        self._waiting: deque[Unit] = deque()
        self._thread = thread
        #: The current or last task of the thread.
        self._task: Future[list[UnitResult]] = Future()
        self._task.set_result([])
        #: True if the next commit would wait for the disk, as the connection is set.
        self._durable: bool | None = None
        #: True if the next commit may checkpoint, as the connection is set.
        self._checkpoints: bool | None = None
        #: True if the last transaction has changed rows.
        self._wrote = False
        #: Seconds that a durable commit took lately, and commits on the loop in a row.
        self._seconds = 1.0
        self._in_a_row = 0
        #: True while a group is run or committed, or scheduled to be.
        self._busy = False
        self._closed = False
        self._checkpoint = False
        #: Transactions committed so far.
        self.commits = 0

    def put(self, unit: Unit) -> None:
        """Queue a unit. Raises `Unavailable` if the writer is closed or the backlog is full."""
        if self._closed:
            raise Unavailable("the database is closed")
        if len(self._waiting) >= BACKLOG:
            raise Unavailable("the database is not keeping up")
        self._waiting.append(unit)
        self._schedule()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file after the next commit."""
        self._checkpoint = True
        self._schedule()

    def open(self) -> None:
        """Let no statement wait for a lock from now on, but on the thread."""
        self._wait_for_locks(0.0)

    def refuse(self) -> None:
        """Refuse new units, and leave those that wait to `close`. Called on the loop."""
        self._closed = True

    def close(self) -> None:
        """Commit what waits, refuse new units, and leave one file.

        On another thread than the loop's only after `refuse`.
        """
        self._closed = True
        self._thread.shutdown()
        resolve_threadsafe(self._task.result())
        while group := self._next_group():
            resolve_threadsafe(self._transact(group))
        self._abandon()
        self._wait_for_locks(LOCK_TIMEOUT)
        self._checkpoint_log("TRUNCATE")

    def _schedule(self) -> None:
        if not self._busy:
            self._busy = True
            # Not at once: other units of this loop iteration share the commit.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the next group and start its commit, again and again until no unit waits."""
        while not self._closed:
            if self._checkpoint:
                self._checkpoint = False
                self._in_thread(loop, self._checkpoint_log, "PASSIVE")
                return
            if not (group := self._next_group()):
                break
            try:
                results, tx = self._executed(group)
            except _Locked:
                self._in_thread(loop, self._transact, group)
                return
            if tx is not None:
                if self._waits and not self._is_quick(group):
                    self._in_thread(loop, self._commit, tx, results)
                    return
                results = self._commit(tx, results, on_loop=True)
            resolve(results)
        self._busy = False

    def _next_group(self) -> list[Unit]:
        return [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]

    def _executed(self, group: list[Unit]) -> tuple[list[UnitResult], sa.Connection | None]:
        """Return the results and the open transaction; None if it failed. Raises `_Locked`."""
        durable = any(unit.durable for unit in group)
        try:
            with raising_unavailable():
                tx = self._connection = self._connection or self._engine.connect()
                # Only outside a transaction: https://sqlite.org/pragma.html#pragma_synchronous
                if durable != self._durable:
                    wait_for_disk(tx, durable)
                    self._durable = durable
                _begin(tx)
                before = _changes(tx)
                results = execute(tx, group)
                self._wrote = _changes(tx) != before
                return results, tx
        except _Locked:
            raise
        except BaseException as error:
            self._abandon()
            if not isinstance(error, Exception):
                raise
            return _failed(group, error), None

    @property
    def _waits(self) -> bool:
        """True if the commit of the last transaction will wait for the disk."""
        return bool(self._durable) and self._wrote

    def _is_quick(self, group: list[Unit]) -> bool:
        """Return whether the commit of a group would gain nothing by the thread."""
        is_alone = len(group) == 1 and not self._waiting
        return is_alone and self._seconds < self._quick and self._in_a_row < _IN_A_ROW

    def _abandon(self) -> None:
        """Roll back, and let the next transaction make the connection anew."""
        connection, self._connection = self._connection, None
        self._durable = self._checkpoints = None
        if connection is not None:
            # The driver too: to SQLAlchemy a commit ends a transaction, even if it fails.
            with contextlib.suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
                _driver(connection).rollback()
            connection.close()

    def _transact(self, group: list[Unit]) -> list[UnitResult]:
        """Run and commit a group, and wait for the lock before, all on this thread.

        When the wait is over, the units that came meanwhile fail too: each would wait as long.
        """
        self._wait_for_locks(LOCK_TIMEOUT)
        try:
            results, tx = self._executed(group)
            return results if tx is None else self._commit(tx, results)
        except _Locked as error:
            return _failed([*group, *self._drain()], error)
        finally:
            self._wait_for_locks(0.0)

    def _drain(self) -> list[Unit]:
        drained: list[Unit] = []
        with contextlib.suppress(IndexError):
            while True:
                drained.append(self._waiting.popleft())
        return drained

    def _wait_for_locks(self, seconds: float) -> None:
        """Set the timeout of the connection, between transactions."""
        connection = self._engine.raw_connection()
        wait_for_locks(connection, seconds)
        connection.close()

    def _in_thread(
        self, loop: asyncio.AbstractEventLoop, work: Callable[..., list[UnitResult]], *args: Any
    ) -> None:
        """Run on the thread what waits for the disk, then continue on the loop."""

        def done(task: Future[list[UnitResult]]) -> None:
            # The loop may be closed, and its waiters gone; the commit stands.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._done, loop, task)

        self._task = self._thread.submit(work, *args)
        self._task.add_done_callback(done)

    def _done(self, loop: asyncio.AbstractEventLoop, task: Future[list[UnitResult]]) -> None:
        resolve(task.result())
        # Not at once: the units that the resolved waiters submit may share the next commit.
        loop.call_soon(self._next, loop)

    def _commit(
        self, tx: sa.Connection, results: list[UnitResult], *, on_loop: bool = False
    ) -> list[UnitResult]:
        began = _clock.monotonic()
        try:
            with raising_unavailable():
                if self._checkpoints is not (not on_loop):
                    self._checkpoints = not on_loop
                    checkpoint_with_commit(tx, self._checkpoints)
                # Before, so that no work appears that was refused; after, since it may be lost now.
                self._check()
                tx.commit()
            self._check()
        except BaseException as error:
            self._abandon()
            return _failed([result.unit for result in results], error)
        if self._waits:
            self._seconds = max(_clock.monotonic() - began, _FADES * self._seconds)
        self._in_a_row = self._in_a_row + self._wrote if on_loop else 0
        self.commits += 1
        return results

    def _checkpoint_log(self, mode: str) -> list[UnitResult]:
        connection = self._engine.raw_connection()
        # A reader may block part of it; the next checkpoint continues. In a file that another
        # program has emptied there is nothing to continue: units of work fail by themselves.
        with contextlib.suppress(sqlite3.DatabaseError):
            connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").close()
        connection.close()
        return []


def _changes(tx: sa.Connection) -> int:
    """Return how many rows a connection has changed, ever."""
    return int(_driver(tx).total_changes)


def _driver(tx: sa.Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", tx.connection.driver_connection)


def _begin(tx: sa.Connection) -> None:
    """Begin a transaction. Raises `_Locked`."""
    try:
        tx.begin()
    except sa.exc.OperationalError as error:
        if is_locked(error):
            raise _Locked("the database is locked by another program") from error
        raise


def _failed(units: Sequence[Unit], error: BaseException) -> list[UnitResult]:
    return [UnitResult(unit, error=error) for unit in units]
