"""The database: short units of work, run as plain functions of a connection.

`write` runs a unit in a transaction, `read` on a reader, and `batched` turns many concurrent single items into one call
of a set-based unit. All units that wait while a commit is under way share the next one: that is where the speed comes
from, and `synchronous=FULL` stays affordable. A unit is a synchronous function, so no HTTP can happen in a transaction.

SQLite has one connection that ever writes or checkpoints: SQLite before 3.51.3 can corrupt a WAL database when two do
at once (https://sqlite.org/wal.html#walresetbug). PostgreSQL has a few, in each of its replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from orchestrator.database.backend import READERS, database_of
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres import notify
from orchestrator.database.unit_of_work import Tx, Unit, ours, transient
from orchestrator.foundation.errors import Unavailable

__all__ = ["Batch", "Store", "Tx"]

T = TypeVar("T")
ItemT = TypeVar("ItemT")
R = TypeVar("R")

#: Seconds in which wake-ups of one stage are one wake-up.
_DEBOUNCE = 0.02


class Store:
    """Opens the database in `start`, drains what waits in `close`."""

    def __init__(
        self, url: str, beside: Callable[[int, str], Executor] = ThreadPoolExecutor
    ) -> None:
        """Prepare for a database URL. Raises `ConfigError` if no such database is supported.

        `beside` makes what does the waiting for the disk: so many threads of that name.
        """
        self._database = database_of(url, beside)
        self._readers = beside(READERS, "reader")
        self._woken: set[str] = set()

    def start(self) -> None:
        """Take the database and make its tables.

        Raises `ConfigError` if another process has it, or it is no database that can be written.
        """
        self._database.start()

    def close(self) -> None:
        """Finish what waits, then let go of the database."""
        self._readers.shutdown()
        self._database.close()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file when there is a moment for it."""
        self._database.checkpoint()

    @property
    def commits(self) -> int:
        """Transactions committed so far."""
        return self._database.commits

    @property
    def shared(self) -> bool:
        """True if other processes may work on the same database."""
        return self._database.shared

    async def write(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(tx, *args)` in a transaction and return its value once that is durable.

        Cancelling the caller does not cancel the unit. Raises what the unit raises, or `Unavailable`.
        """
        value: T = await self._put(run, args)
        return value

    async def claim(self, run: Callable[..., T], *args: Any) -> T:
        """As `write`, for what a loss of power may take back: who claims work, claims it again. Waits for no disk."""
        value: T = await self._put(run, args, lasting=False)
        return value

    async def read(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(connection, *args)` on a connection that cannot write. Raises `Unavailable`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._read, run, args
        )

    def batched(self, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> Batch[ItemT, R]:
        """Return a function of one item that shares calls of `run`, a function of many, with its neighbours."""
        return Batch(self, run)

    def listen(self, heard: Callable[[str], None]) -> None:
        """Call `heard` on this loop with each stage that another process woke."""
        loop = asyncio.get_running_loop()
        self._database.listen(lambda stage: loop.call_soon_threadsafe(heard, stage))

    def wake(self, stage: str) -> None:
        """Wake a stage in the other processes. It may be lost: their tick is the promise."""
        if self.shared and stage not in self._woken:
            self._woken.add(stage)
            asyncio.get_running_loop().call_later(_DEBOUNCE, self._wake, stage)

    def _wake(self, stage: str) -> None:
        self._woken.discard(stage)
        try:
            self._put(notify.wake, (stage,))
        except Unavailable:
            return

    async def ahead(self, now: Callable[[], datetime]) -> float:
        """Return how many seconds the database's clock is ahead of `now`, where others share it; 0.0 elsewhere."""
        if not self.shared:
            return 0.0
        before = now()
        there = await self.read(postgres.server_time)
        return (there - before - (now() - before) / 2).total_seconds()

    def _put(
        self,
        run: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        item: bool = False,
        lasting: bool = True,
    ) -> asyncio.Future[Any]:
        unit = Unit(run, args, asyncio.get_running_loop().create_future(), item, lasting)
        self._database.put(unit)
        # A waiter that is cancelled leaves its unit to run: the writer looks at the future only to answer.
        return unit.future

    def _read(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        try:
            try:
                return self._once(run, args)
            except sa.exc.DBAPIError as error:
                if not transient(error):
                    raise
                # A connection that died while it waited took the others with it; the next one is fresh.
                return self._once(run, args)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise ours(error) from error

    def _once(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self._database.reading.connect() as connection:
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
