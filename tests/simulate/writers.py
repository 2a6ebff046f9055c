"""How units are committed: with a crash at either side of it, a failure, or the word of it lost or late.

Two ways of writing are simulated: SQLite's one writer, which is the product's own, and a pool of PostgreSQL's kind, in
which units that wait are committed in any order and may be run again. Transactions never overlap.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import Enum
from typing import Any, ParamSpec, Protocol, TypeVar

import sqlalchemy as sa

from orchestrator.database.sqlite.writer import Writer
from orchestrator.database.store import Store
from orchestrator.database.unit_of_work import (
    Unit,
    UnitResult,
    execute,
    raising_unavailable,
    resolve,
)
from orchestrator.foundation.errors import Unavailable
from tests.simulate.database import engine

P = ParamSpec("P")
T = TypeVar("T")


class Fate(Enum):
    """What becomes of one commit."""

    FINE = "fine"
    #: It is durable long before anybody hears of it.
    LATE = "late"
    #: It fails: nothing is durable, and everybody hears so.
    FAILED = "failed"
    #: It is durable, and the connection is lost before the database could say so.
    UNCERTAIN = "uncertain"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"


class Host(Protocol):
    """What a database needs to know of the process that uses it."""

    @property
    def is_up(self) -> bool:
        """False once it is dead."""

    def fate(self) -> Fate:
        """Draw what becomes of the next commit."""

    def die(self) -> None:
        """Crash."""

    def committed(self) -> None:
        """Something is durable."""

    def others(self, stage: str) -> None:
        """Wake a stage of the other processes."""


class Inline(Executor):
    """Runs what it is given at once."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it and return its outcome."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Aside(Inline):
    """The thread beside the loop that SQLite's writer commits on, without the thread."""

    def __init__(self, host: Host, rng: random.Random) -> None:
        self._host = host
        self._rng = rng

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Commit, or not."""
        tx = args[0] if args else None
        if not isinstance(tx, sa.Connection):
            return super().submit(fn, *args, **kwargs)
        fate = self._host.fate()
        if fate in (Fate.CRASH_BEFORE, Fate.FAILED):
            tx.rollback()
            tx.close()
            if fate is Fate.FAILED:
                return self._failed(args[1])
            self._host.die()
            return Future()
        done = super().submit(fn, *args, **kwargs)
        self._host.committed()
        if fate is Fate.CRASH_AFTER:
            self._host.die()
            return Future()
        return self._later(done) if fate is Fate.LATE else done

    def _failed(self, outcomes: Any) -> Future[Any]:
        failed: Future[Any] = Future()
        failed.set_result(_lost([one.unit for one in outcomes]))
        return failed

    def _later(self, done: Future[T]) -> Future[T]:
        told: Future[T] = Future()
        asyncio.get_running_loop().call_later(
            self._rng.expovariate(2), lambda: told.set_result(done.result())
        )
        return told


class Single:
    """SQLite's way: the product's own writer."""

    shared = False

    def __init__(self, host: Host, rng: random.Random) -> None:
        self.reading = engine()
        self._writer = Writer(self.reading, Aside(host, rng))

    @property
    def commits(self) -> int:
        """Transactions committed so far."""
        return self._writer.commits

    def start(self) -> None:
        """The tables are there."""

    def put(self, unit: Unit) -> None:
        """Hand a unit to the writer."""
        self._writer.put(unit)

    def checkpoint(self) -> None:
        """There is no log."""

    def listen(self, heard: Callable[[str], object]) -> None:
        """Nobody else is there."""

    def close(self) -> None:
        """The next process uses it too."""


class Pool:
    """PostgreSQL's way: several writers, one call to a transaction, in any order."""

    shared = True

    def __init__(self, host: Host, rng: random.Random) -> None:
        self.reading = engine()
        self.commits = 0
        self._host = host
        self._rng = rng
        self._waiting: list[Unit] = []

    def start(self) -> None:
        """The tables are there."""

    def checkpoint(self) -> None:
        """The server's own business."""

    def listen(self, heard: Callable[[str], object]) -> None:
        """The world wakes whom it likes."""

    def close(self) -> None:
        """The next process uses it too."""

    def put(self, unit: Unit) -> None:
        """Have a unit committed soon."""
        self._waiting.append(unit)
        loop = asyncio.get_running_loop()
        loop.call_later(self._rng.choice((0.0, 0.0, 0.001, 0.01)), self._go)

    def _go(self) -> None:
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
        if again and fate is Fate.UNCERTAIN:
            fate = Fate.FINE
        outcomes = self._performed(group, fate)
        if outcomes is None or fate is Fate.CRASH_AFTER:
            self._host.die()
        elif fate is Fate.UNCERTAIN and self._rng.random() < 0.5:
            loop.call_later(0.02, lambda: self._commit(group, again=True))
        elif fate is Fate.UNCERTAIN:
            loop.call_soon(resolve, _lost(group))
        elif fate is Fate.LATE:
            loop.call_later(self._rng.expovariate(2), resolve, outcomes)
        else:
            loop.call_soon(resolve, outcomes)

    def _performed(self, group: list[Unit], fate: Fate) -> list[UnitResult] | None:
        """Run units and commit them; None if the process is to die before that."""
        try:
            with raising_unavailable(), self.reading.connect() as tx:
                tx.begin()
                outcomes = execute(tx, group)
                if fate in (Fate.CRASH_BEFORE, Fate.FAILED):
                    tx.rollback()
                    return None if fate is Fate.CRASH_BEFORE else _lost(group)
                tx.commit()
        except Exception as error:
            return [UnitResult(unit, error=error) for unit in group]
        self.commits += 1
        self._host.committed()
        return outcomes


def _lost(group: list[Unit]) -> list[UnitResult]:
    return [UnitResult(unit, error=Unavailable("the connection was lost")) for unit in group]


class SharedStore(Store):
    """The product's store over the shared database."""

    def __init__(self, host: Host, rng: random.Random, *, single: bool) -> None:
        self._database = Single(host, rng) if single else Pool(host, rng)
        self._readers = Inline()
        self._woken = set()
        self._host = host

    def wake(self, stage: str) -> None:
        """Wake a stage of the others, as NOTIFY would."""
        self._host.others(stage)
