"""The writing side of the database: a thread, a queue, and one commit for everything that waits (group commit).

A unit that fails takes only itself down: each call runs in a savepoint, and a batch that fails is tried again item by
item. When the commit itself fails, everybody in it hears so and nothing was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from orchestrator.errors import Unavailable
from orchestrator.sqlite import is_open

Tx = sa.Connection

#: Units that may share one commit; more wait for the next.
GROUP = 256
#: Units that may wait. Beyond this the database is not keeping up, and saying so beats growing.
BACKLOG = 8192


class Signal(Enum):
    """What the writer is told, besides work."""

    CHECKPOINT = auto()
    STOP = auto()


@dataclass(slots=True, eq=False)
class Unit:
    """One piece of work: a call, or one item of a batch (`item`), and who waits for it."""

    run: Callable[..., Any]
    args: tuple[Any, ...]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    item: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    unit: Unit
    value: Any = None
    error: BaseException | None = None


class Writer(threading.Thread):
    """Commits what is put to it, in order, until told to stop."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(name="writer", daemon=True)
        self._engine = engine
        self._queue: queue.SimpleQueue[Unit | Signal] = queue.SimpleQueue()
        #: Transactions committed and units in them, for the bench.
        self.commits = 0
        self.units = 0
        self._stopping = False

    def put(self, work: Unit | Signal) -> None:
        """Hand over a unit or a signal. Raises `Unavailable` for a unit that comes too late or stands too far back."""
        if isinstance(work, Unit) and self._stopping:
            raise Unavailable("the database is closed")
        if isinstance(work, Unit) and self._queue.qsize() > BACKLOG:
            raise Unavailable("the database is not keeping up")
        self._stopping = self._stopping or work is Signal.STOP
        self._queue.put(work)

    def run(self) -> None:
        """Take whatever waits, commit it together, say so, until told to stop."""
        signal: Signal | None = None
        while signal is not Signal.STOP:
            group: list[Unit] = []
            taken = self._queue.get()
            while isinstance(taken, Unit):
                group.append(taken)
                if len(group) == GROUP or self._queue.empty():
                    break
                taken = self._queue.get()
            signal = taken if isinstance(taken, Signal) else None
            if group:
                _tell(self._commit(group))
            if signal is Signal.CHECKPOINT:
                self.checkpoint("PASSIVE")

    def checkpoint(self, mode: str) -> None:
        """Move the write-ahead log into the file. Only on this thread, or when it has ended."""
        connection = self._engine.raw_connection()
        # A reader in the way is no failure: the next checkpoint gets further.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").close()
        connection.close()

    def _commit(self, group: list[Unit]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        try:
            with translated(), self._engine.begin() as tx:
                for units in _gathered(group):
                    outcomes += _attempt(tx, units, alone=len(units) == len(group))
        except BaseException as error:
            return [_Outcome(unit, error=error) for unit in group]
        self.commits += 1
        self.units += len(group)
        return outcomes


def _gathered(group: list[Unit]) -> list[list[Unit]]:
    """Return the calls to make: items of the same batch together, where the first of them stood."""
    batches: dict[Callable[..., Any], list[Unit]] = {}
    calls: list[list[Unit]] = []
    for unit in group:
        if unit.item and unit.run in batches:
            batches[unit.run].append(unit)
            continue
        calls.append([unit])
        if unit.item:
            batches[unit.run] = calls[-1]
    return calls


def _attempt(tx: Tx, units: list[Unit], *, alone: bool) -> list[_Outcome]:
    """Make one call for these units, in a savepoint unless it is all there is to commit."""
    first = units[0]
    if alone and not first.item:
        return [_Outcome(first, first.run(tx, *first.args))]
    try:
        with tx.begin_nested():
            values: Sequence[Any]
            values = first.run(tx, [unit.args[0] for unit in units]) if first.item else [first.run(tx, *first.args)]
        return [_Outcome(unit, value) for unit, value in zip(units, values, strict=True)]
    except Exception as error:
        if not is_open(tx):
            # The neighbours' work is gone too, and without a transaction a savepoint would commit by itself.
            raise Unavailable("the database gave the transaction up; is the disk full?") from error
        if len(units) > 1:
            return [outcome for unit in units for outcome in _attempt(tx, [unit], alone=False)]
        return [_Outcome(first, error=ours(error))]


def _tell(outcomes: list[_Outcome]) -> None:
    """Hand outcomes over to the loops that wait, one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.unit.loop, []).append(outcome)
    for loop, settled in by_loop.items():
        # The loop may be gone, and with it who waited; what was committed stays committed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, settled)


def _settle(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.unit.future
        if future.done():
            continue
        if outcome.error is None:
            future.set_result(outcome.value)
        else:
            future.set_exception(outcome.error)
            # Nobody may be waiting any more; an exception nobody fetched is not worth a warning.
            future.exception()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise database trouble as `Unavailable`."""
    try:
        yield
    except OperationalError as error:
        raise ours(error) from error


def ours(error: BaseException) -> BaseException:
    """Return database trouble (full disk, lost connection) as `Unavailable`; anything else stays what it is."""
    return Unavailable(f"the database is not available: {error.orig}") if isinstance(error, OperationalError) else error
