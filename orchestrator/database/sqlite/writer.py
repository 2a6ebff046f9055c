"""The writing side of SQLite: one connection, and one commit for everything that waits (group commit).

Statements run on the event loop, commits on a thread beside it. A statement takes microseconds and needs the
interpreter's lock anyway: on another thread it would fight the loop for it, which costs more than the statement does.
A commit waits for the disk, without the lock, while the loop takes in what the next one will hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import sqlalchemy as sa

from orchestrator.database.sqlite.engine import wait_for_disk
from orchestrator.database.unit_of_work import (
    BACKLOG,
    Unit,
    UnitResult,
    perform,
    settle,
    translated,
)
from orchestrator.foundation.errors import Unavailable

#: Units that may share one commit; more wait for the next. The loop stands still for as long as they take.
GROUP = 128


class Writer:
    """Commits what is put to it, in order, until it is closed. One event loop puts."""

    def __init__(self, engine: sa.Engine, beside: Executor) -> None:
        self._engine = engine
        self._waiting: deque[Unit] = deque()
        self._thread = beside
        #: What the thread does, or did last.
        self._aside: Future[list[UnitResult]] = Future()
        self._aside.set_result([])
        #: True while units are in hand, or about to be.
        self._at_work = False
        self._closed = False
        self._checkpoint = False
        #: Transactions committed, for the bench.
        self.commits = 0

    def put(self, unit: Unit) -> None:
        """Hand over a unit. Raises `Unavailable` for one that comes too late or stands too far back."""
        if self._closed:
            raise Unavailable("the database is closed")
        if len(self._waiting) >= BACKLOG:
            raise Unavailable("the database is not keeping up")
        self._waiting.append(unit)
        self._go_on()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file when the next commit is done."""
        self._checkpoint = True
        self._go_on()

    def close(self) -> None:
        """Finish what waits, let nothing new in, and leave one file."""
        self._closed = True
        self._thread.shutdown()
        settle(self._aside.result())
        while group := self._taken():
            outcomes, tx = self._performed(group)
            settle(outcomes if tx is None else self._commit(tx, outcomes))
        self._move_log("TRUNCATE")

    def _go_on(self) -> None:
        if not self._at_work:
            self._at_work = True
            # Not at once: what else this turn of the loop brings shares the commit.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the next group, and have it committed; then again, until nothing waits."""
        while not self._closed:
            if self._checkpoint:
                self._checkpoint = False
                self._beside(loop, self._move_log, "PASSIVE")
                return
            if not (group := self._taken()):
                break
            outcomes, tx = self._performed(group)
            if tx is not None:
                self._beside(loop, self._commit, tx, outcomes)
                return
            settle(outcomes)
        self._at_work = False

    def _taken(self) -> list[Unit]:
        return [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]

    def _performed(self, group: list[Unit]) -> tuple[list[UnitResult], sa.Connection | None]:
        """Return what the units came to, and the transaction that holds it; none when all is lost."""
        try:
            with translated(), contextlib.ExitStack() as undo:
                tx = undo.enter_context(self._engine.connect())
                # Outside of a transaction only: https://sqlite.org/pragma.html#pragma_synchronous
                wait_for_disk(tx, any(unit.lasting for unit in group))
                tx.begin()
                outcomes = perform(tx, group)
                undo.pop_all()
                return outcomes, tx
        except Exception as error:
            return [UnitResult(unit, error=error) for unit in group], None

    def _beside(
        self, loop: asyncio.AbstractEventLoop, work: Callable[..., list[UnitResult]], *args: Any
    ) -> None:
        """Do what waits for the disk on the thread, and go on with its outcome."""

        def done(aside: Future[list[UnitResult]]) -> None:
            # The loop may be gone, and with it who waited; what was committed stays committed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._done, loop, aside)

        self._aside = self._thread.submit(work, *args)
        self._aside.add_done_callback(done)

    def _done(self, loop: asyncio.AbstractEventLoop, aside: Future[list[UnitResult]]) -> None:
        settle(aside.result())
        # Not at once: who was waiting answers first, and what that brings may share the next commit.
        loop.call_soon(self._next, loop)

    def _commit(self, tx: sa.Connection, outcomes: list[UnitResult]) -> list[UnitResult]:
        try:
            with translated(), tx:
                tx.commit()
        except BaseException as error:
            return [UnitResult(one.unit, error=error) for one in outcomes]
        self.commits += 1
        return outcomes

    def _move_log(self, mode: str) -> list[UnitResult]:
        connection = self._engine.raw_connection()
        # A reader in the way is no failure: the next checkpoint gets further.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").close()
        connection.close()
        return []
