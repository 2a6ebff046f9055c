"""The database: short units of work, run as plain functions of a connection.

`write` runs a unit in a transaction, `read` on a reader, and `batched` turns many concurrent single items into one call
of a set-based unit. All units that wait while a commit is under way share the next one (group commit): that is where
the speed comes from, and `synchronous=FULL` stays affordable. A unit is a synchronous function, so no HTTP can happen
inside a transaction.

SQLite has one writer thread, the only connection that ever writes or checkpoints: SQLite before 3.51.3 can corrupt a
WAL database when two do at once (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from orchestrator.errors import Unavailable
from orchestrator.sqlite import Lock, engines
from orchestrator.tables import metadata

Tx = sa.Connection
T = TypeVar("T")
ItemT = TypeVar("ItemT")
R = TypeVar("R")

#: Units that may share one commit; more wait for the next.
_GROUP = 256
#: Units that may wait. Beyond this the database is not keeping up, and saying so beats growing.
_BACKLOG = 8192
_READERS = 4


class _Signal(Enum):
    CHECKPOINT = auto()
    STOP = auto()


@dataclass(slots=True, eq=False)
class _Unit:
    """One piece of work for the writer: a call, or one item of a batch."""

    run: Callable[..., Any]
    args: tuple[Any, ...]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    item: bool = False


class Store:
    """Opens the database in `start`, drains its writer in `close`."""

    def __init__(self, url: str) -> None:
        """Prepare for a database URL. Raises `ConfigError` if no such database is supported."""
        self._lock = Lock(url)
        self._writer_engine, self._reader_engine = engines(url)
        self._queue: queue.SimpleQueue[_Unit | _Signal] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        #: Transactions committed and units in them, for the bench.
        self.commits = 0
        self.units = 0

    def start(self) -> None:
        """Take the database for this process and make its tables. Raises `ConfigError` if another process has it."""
        self._lock.take()
        with self._writer_engine.begin() as tx:
            metadata.create_all(tx)
        self._thread.start()

    def close(self) -> None:
        """Finish what waits, then let go of the database."""
        if self._thread.is_alive():
            self._queue.put(_Signal.STOP)
            self._thread.join()
        self._readers.shutdown()
        self._reader_engine.dispose()
        self._checkpoint("TRUNCATE")
        self._writer_engine.dispose()
        self._lock.release()

    def checkpoint(self) -> None:
        """Ask the writer to move its write-ahead log into the file when it next has a moment."""
        self._queue.put(_Signal.CHECKPOINT)

    async def write(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(tx, *args)` in a transaction and return its value once that is durable.

        Cancelling the caller does not cancel the unit. Raises what the unit raises, or `Unavailable`.
        """
        value: T = await self._submit(run, args)
        return value

    async def read(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(connection, *args)` on a connection that cannot write."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, run, args)

    def batched(self, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> Batch[ItemT, R]:
        """Return a function of one item that shares calls of `run`, a function of many, with its neighbours."""
        return Batch(self, run)

    def _submit(self, run: Callable[..., Any], args: tuple[Any, ...], *, item: bool = False) -> asyncio.Future[Any]:
        if self._queue.qsize() > _BACKLOG:
            raise Unavailable("the database is not keeping up")
        loop = asyncio.get_running_loop()
        unit = _Unit(run, args, loop.create_future(), loop, item)
        self._queue.put(unit)
        # A cancelled waiter must not make the outcome of a committed unit look like a failure.
        return asyncio.shield(unit.future)

    def _read(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        with _translated(), self._reader_engine.connect() as connection:
            return run(connection, *args)

    # -- the writer's thread

    def _work(self) -> None:
        """Take whatever waits, commit it together, say so, until told to end."""
        signal: _Signal | None = None
        while signal is not _Signal.STOP:
            group: list[_Unit] = []
            taken = self._queue.get()
            while isinstance(taken, _Unit):
                group.append(taken)
                if len(group) == _GROUP or self._queue.empty():
                    break
                taken = self._queue.get()
            signal = taken if isinstance(taken, _Signal) else None
            if group:
                self._commit(group)
            if signal is _Signal.CHECKPOINT:
                self._checkpoint("PASSIVE")

    def _checkpoint(self, mode: str) -> None:
        connection = self._writer_engine.raw_connection()
        # A reader in the way is no failure: the next checkpoint gets further.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").close()
        connection.close()

    def _commit(self, group: list[_Unit]) -> None:
        outcomes: list[tuple[_Unit, Any, BaseException | None]] = []
        try:
            with _translated(), self._writer_engine.begin() as tx:
                for units in _gathered(group):
                    outcomes += self._attempt(tx, units, alone=len(units) == len(group))
            self.commits += 1
            self.units += len(group)
        except BaseException as error:
            outcomes = [(unit, None, error) for unit in group]
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Unit, Any, BaseException | None]]] = {}
        for outcome in outcomes:
            by_loop.setdefault(outcome[0].loop, []).append(outcome)
        for loop, settled in by_loop.items():
            # The loop may have gone with its process's last request; what was committed stays committed.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, settled)

    def _attempt(self, tx: Tx, units: list[_Unit], *, alone: bool) -> list[tuple[_Unit, Any, BaseException | None]]:
        """Run one call for these units inside a savepoint; a batch that fails is tried again item by item."""
        try:
            with contextlib.nullcontext() if alone and not units[0].item else tx.begin_nested():
                if units[0].item:
                    values: Sequence[Any] = units[0].run(tx, [unit.args[0] for unit in units])
                else:
                    values = [units[0].run(tx, *units[0].args)]
            return [(unit, value, None) for unit, value in zip(units, values, strict=True)]
        except Exception as error:
            if alone and not units[0].item:
                raise
            if len(units) > 1:
                return [outcome for unit in units for outcome in self._attempt(tx, [unit], alone=False)]
            return [(units[0], None, _ours(error))]


class Batch(Generic[ItemT, R]):
    """`await batch(item)`: one item's share of a set-based unit."""

    def __init__(self, store: Store, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> None:
        self._store = store
        self._run = run

    async def __call__(self, item: ItemT) -> R:
        """Return the value that belongs to `item`, once it is durable. Raises `Unavailable`."""
        value: R = await self._store._submit(self._run, (item,), item=True)
        return value


def _gathered(group: list[_Unit]) -> Iterator[list[_Unit]]:
    """Yield the calls to make: items of the same batch together, where the first of them stood."""
    batches: dict[Callable[..., Any], list[_Unit]] = {}
    calls: list[list[_Unit]] = []
    for unit in group:
        if unit.item and unit.run in batches:
            batches[unit.run].append(unit)
            continue
        calls.append([unit])
        if unit.item:
            batches[unit.run] = calls[-1]
    yield from calls


def _settle(settled: list[tuple[_Unit, Any, BaseException | None]]) -> None:
    for unit, value, error in settled:
        if unit.future.done():
            continue
        if error is None:
            unit.future.set_result(value)
        else:
            unit.future.set_exception(error)
            # Nobody may be waiting any more; an exception nobody fetched is not worth a warning.
            unit.future.exception()


def insert(tx: Tx, table: sa.Table) -> sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT in this connection's dialect; both spell it alike."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)  # type: ignore[return-value]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise _ours(error) from error


def _ours(error: BaseException) -> BaseException:
    """Return database trouble (full disk, lost connection) as `Unavailable`; anything else stays what it is."""
    return Unavailable(f"the database is not available: {error.orig}") if isinstance(error, OperationalError) else error
