"""Commits with faults: a crash before or after, a failure, or a lost or late confirmation.

Two writers are simulated: the product's own writer of SQLite, and a pool as on PostgreSQL that
commits waiting units in any order and may run them again. Transactions never overlap.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import Enum
from typing import Any, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

from orchestrator.database.membership import Membership
from orchestrator.database.sqlite.writer import Writer
from orchestrator.database.store import Store, Tx
from orchestrator.database.unit_of_work import (
    Unit,
    UnitResult,
    execute,
    raising_unavailable,
    resolve,
)
from orchestrator.foundation.errors import Unavailable
from tests.simulate.database import engine
from tests.simulate.sessions import Locks

P = ParamSpec("P")
T = TypeVar("T")


class CommitFate(Enum):
    """The result of one commit."""

    FINE = "fine"
    #: Durable; confirmed late.
    LATE = "late"
    #: Not durable; reported as failed.
    FAILED = "failed"
    #: Durable; the connection is lost before the confirmation.
    UNCERTAIN = "uncertain"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"


class Host(Protocol):
    """The process that uses a database."""

    @property
    def is_up(self) -> bool:
        """False after a crash."""

    def fate(self) -> CommitFate:
        """Draw the fate of the next commit."""

    def die(self) -> None:
        """Crash."""

    def on_commit(self) -> None:
        """Report a durable commit."""

    def wake_others(self, stage: str) -> None:
        """Wake a stage of the other processes."""


class InlineExecutor(Executor):
    """Runs a function at once."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the function and return a finished future."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class CommitExecutor(InlineExecutor):
    """Replaces the commit thread of the SQLite writer, and injects commit faults."""

    def __init__(self, host: Host, rng: random.Random) -> None:
        self._host = host
        self._rng = rng

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Commit as the fate of the commit demands; run any other function at once."""
        tx = args[0] if args else None
        if not isinstance(tx, sa.Connection):
            return super().submit(fn, *args, **kwargs)
        fate = self._host.fate()
        if fate in (CommitFate.CRASH_BEFORE, CommitFate.FAILED):
            tx.rollback()
            if fate is CommitFate.FAILED:
                return self._failed(args[1])
            self._host.die()
            return Future()
        done = super().submit(fn, *args, **kwargs)
        self._host.on_commit()
        if fate is CommitFate.CRASH_AFTER:
            self._host.die()
            return Future()
        return self._later(done) if fate is CommitFate.LATE else done

    def _failed(self, outcomes: Any) -> Future[Any]:
        failed: Future[Any] = Future()
        failed.set_result(_connection_lost([result.unit for result in outcomes]))
        return failed

    def _later(self, done: Future[T]) -> Future[T]:
        types: Future[T] = Future()
        asyncio.get_running_loop().call_later(
            self._rng.expovariate(2), lambda: types.set_result(done.result())
        )
        return types


class SqliteWriter:
    """The product's SQLite writer."""

    shared = False

    def __init__(self, host: Host, rng: random.Random, membership: Membership) -> None:
        self.membership = membership
        self.reading = engine()
        self._writer = Writer(self.reading, CommitExecutor(host, rng), quick=0.0)

    @property
    def commits(self) -> int:
        """Number of committed transactions."""
        return self._writer.commits

    def start(self) -> None:
        """Do nothing: the tables exist."""

    def put(self, unit: Unit) -> None:
        """Queue a unit."""
        self._writer.put(unit)

    def checkpoint(self) -> None:
        """Do nothing: there is no log."""

    def listen(self, on_notify: Callable[[str], object]) -> None:
        """Do nothing: SQLite has one process."""

    def has_lost(self, tx: Tx) -> bool:
        """Return False: SQLite has one process."""
        return False

    def expel(self, tx: Tx) -> list[int]:
        """Return nothing: SQLite has one process."""
        return []

    def refuse(self) -> None:
        """Do nothing: a process ends at once."""

    def close(self) -> None:
        """Do nothing: the next process uses the same engine."""


class PostgresWriters:
    """Several writers as on PostgreSQL: one call per transaction, in any order."""

    shared = True

    def __init__(
        self, host: Host, rng: random.Random, membership: Membership, locks: Locks
    ) -> None:
        self.membership = membership
        self.has_lost, self.expel = locks.has_lost, locks.expel
        self.reading = engine()
        self.commits = 0
        self._host = host
        self._rng = rng
        self._waiting: list[Unit] = []

    def start(self) -> None:
        """Do nothing: the tables exist."""

    def checkpoint(self) -> None:
        """Do nothing: checkpoints are the server's."""

    def listen(self, on_notify: Callable[[str], object]) -> None:
        """Do nothing: the world delivers notifications."""

    def refuse(self) -> None:
        """Do nothing: a process ends at once."""

    def close(self) -> None:
        """Do nothing: the next process uses the same engine."""

    def put(self, unit: Unit) -> None:
        """Commit a unit soon."""
        self._waiting.append(unit)
        loop = asyncio.get_running_loop()
        loop.call_later(self._rng.choice((0.0, 0.0, 0.001, 0.01)), self._commit_next)

    def _commit_next(self) -> None:
        if not self._waiting:
            return
        first = self._waiting.pop(int(self._rng.random() * len(self._waiting)))
        group = [first]
        if first.item:
            group += [unit for unit in self._waiting if unit.item and unit.run == first.run]
            self._waiting = [unit for unit in self._waiting if unit not in group]
        self._commit(group)

    def _commit(self, group: list[Unit], *, again: bool = False) -> None:
        fate, loop = self._host.fate(), asyncio.get_running_loop()
        if again and fate is CommitFate.UNCERTAIN:
            fate = CommitFate.FINE
        outcomes = self._execute(group, fate)
        if outcomes is None or fate is CommitFate.CRASH_AFTER:
            self._host.die()
        elif fate is CommitFate.UNCERTAIN and self._rng.random() < 0.5:
            loop.call_later(0.02, lambda: self._commit(group, again=True))
        elif fate is CommitFate.UNCERTAIN:
            loop.call_soon(resolve, _connection_lost(group))
        elif fate is CommitFate.LATE:
            loop.call_later(self._rng.expovariate(2), resolve, outcomes)
        else:
            loop.call_soon(resolve, outcomes)

    def _execute(self, group: list[Unit], fate: CommitFate) -> list[UnitResult] | None:
        """Run units and commit them. Return None if the process crashes before the commit."""
        try:
            with raising_unavailable(), self.reading.connect() as tx:
                tx.begin()
                outcomes = execute(tx, group)
                if fate in (CommitFate.CRASH_BEFORE, CommitFate.FAILED):
                    tx.rollback()
                    return None if fate is CommitFate.CRASH_BEFORE else _connection_lost(group)
                tx.commit()
        except Exception as error:
            return [UnitResult(unit, error=error) for unit in group]
        self.commits += 1
        self._host.on_commit()
        return outcomes


def _connection_lost(group: list[Unit]) -> list[UnitResult]:
    return [UnitResult(unit, error=Unavailable("the connection was lost")) for unit in group]


class SimulatedStore(Store):
    """The product's store on the shared database."""

    def __init__(
        self, host: Host, rng: random.Random, membership: Membership, locks: Locks | None
    ) -> None:
        self._database = (
            PostgresWriters(host, rng, membership, locks)
            if locks
            else SqliteWriter(host, rng, membership)
        )
        self._readers = InlineExecutor()
        self._woken = set()
        self._shared_reads = {}
        self._host = host

    def wake(self, stage: str) -> None:
        """Wake a stage of the other replicas, as NOTIFY does."""
        self._host.wake_others(stage)
