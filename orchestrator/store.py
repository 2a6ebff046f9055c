"""The database: short units of work, run as plain functions of a connection.

`write` runs a unit in a transaction, `read` on a reader, and `batched` turns many concurrent single items into one call
of a set-based unit. All units that wait while a commit is under way share the next one: that is where the speed comes
from, and `synchronous=FULL` stays affordable. A unit is a synchronous function, so no HTTP can happen in a transaction.

SQLite has one writer thread, the only connection that ever writes or checkpoints: SQLite before 3.51.3 can corrupt a
WAL database when two do at once (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from orchestrator.errors import ConfigError
from orchestrator.sqlite import Lock, engines
from orchestrator.tables import metadata
from orchestrator.units import Tx, Unit, translated
from orchestrator.writer import Writer

__all__ = ["Batch", "Store", "Tx"]

T = TypeVar("T")
ItemT = TypeVar("ItemT")
R = TypeVar("R")

_READERS = 4


class Store:
    """Opens the database in `start`, drains its writer in `close`."""

    def __init__(self, url: str, beside: Callable[[int, str], Executor] = ThreadPoolExecutor) -> None:
        """Prepare for a database URL. Raises `ConfigError` if no such database is supported.

        `beside` makes what does the waiting for the disk: so many threads of that name.
        """
        self._lock = Lock(url)
        self._writer_engine, self._reader_engine = engines(url)
        self._writer = Writer(self._writer_engine, beside(1, "commit"))
        self._readers = beside(_READERS, "reader")

    def start(self) -> None:
        """Take the database for this process and make its tables.

        Raises `ConfigError` if another process has it, or it is no database that can be written.
        """
        self._lock.take()
        try:
            with self._writer_engine.begin() as tx:
                metadata.create_all(tx)
        except (sqlite3.DatabaseError, sa.exc.DatabaseError) as error:
            self._lock.release()
            raise ConfigError(f"database_url: {error}; name another file, or restore this one") from error

    def close(self) -> None:
        """Finish what waits, then let go of the database."""
        self._readers.shutdown()
        self._reader_engine.dispose()
        if self._lock.held:
            self._writer.close()
        self._writer_engine.dispose()
        self._lock.release()

    def checkpoint(self) -> None:
        """Ask the writer to move its write-ahead log into the file when it next has a moment."""
        self._writer.checkpoint()

    @property
    def commits(self) -> int:
        """Transactions committed so far."""
        return self._writer.commits

    async def write(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(tx, *args)` in a transaction and return its value once that is durable.

        Cancelling the caller does not cancel the unit. Raises what the unit raises, or `Unavailable`.
        """
        value: T = await self._put(run, args)
        return value

    async def read(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(connection, *args)` on a connection that cannot write. Raises `Unavailable`."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, run, args)

    def batched(self, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> Batch[ItemT, R]:
        """Return a function of one item that shares calls of `run`, a function of many, with its neighbours."""
        return Batch(self, run)

    def _put(self, run: Callable[..., Any], args: tuple[Any, ...], *, item: bool = False) -> asyncio.Future[Any]:
        unit = Unit(run, args, asyncio.get_running_loop().create_future(), item)
        self._writer.put(unit)
        # A waiter that is cancelled leaves its unit to run: the writer looks at the future only to answer.
        return unit.future

    def _read(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        with translated(), self._reader_engine.connect() as connection:
            return run(connection, *args)


class Batch(Generic[ItemT, R]):
    """`await batch(item)`: one item's share of a set-based unit."""

    def __init__(self, store: Store, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> None:
        self._store = store
        self._run = run

    async def __call__(self, item: ItemT) -> R:
        """Return the value that belongs to `item`, once it is durable. Raises `Unavailable`."""
        value: R = await self._store._put(self._run, (item,), item=True)
        return value
