"""The database: short units of work, run as plain functions of a connection.

`write` runs a unit in a transaction, `read` on a read-only connection, and `batched` turns many
concurrent items into one call of a set-based unit. Group commit: all units that wait while a commit
is under way share the next one, so `synchronous=FULL` stays affordable. A unit is a synchronous
function, so no HTTP can happen in a transaction.

SQLite has one connection that ever writes or checkpoints: SQLite before 3.51.3 can corrupt a WAL
database when two do at once (https://sqlite.org/wal.html#walresetbug). PostgreSQL has a few in each
replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from orchestrator.database.backend import READERS, database_of
from orchestrator.database.membership import Membership
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres import notify
from orchestrator.database.unit_of_work import Tx, Unit, as_unavailable, transient
from orchestrator.foundation.errors import Unavailable

__all__ = ["Batch", "Store", "Tx"]

T = TypeVar("T")
ItemT = TypeVar("ItemT")
R = TypeVar("R")

#: Seconds in which the wake-ups of a stage are merged into one.
_DEBOUNCE = 0.02


class Store:
    """Opens the database in `start`; `close` commits what waits."""

    def __init__(
        self, url: str, executor: Callable[[int, str], Executor] = ThreadPoolExecutor
    ) -> None:
        """Prepare for a database URL. Raises `ConfigError` if the database is not supported.

        `executor` makes the threads that wait for the disk, given their number and name.
        """
        self._database = database_of(url, executor)
        self._readers = executor(READERS, "reader")
        self._woken: set[str] = set()
        #: The shared reads that have not begun.
        self._shared_reads: dict[tuple[Callable[..., Any], tuple[Any, ...]], asyncio.Task[Any]] = {}

    def start(self) -> None:
        """Open the database and make its tables.

        Raises `ConfigError` if another process has it, or it cannot be written.
        """
        self._database.start()

    def close(self) -> None:
        """Commit what waits, then close the database."""
        self._readers.shutdown()
        self._database.close()

    async def astart(self) -> None:
        """As `start`, without waiting for the disk or a server on the loop."""
        await asyncio.to_thread(self.start)

    async def aclose(self) -> None:
        """As `close`, without waiting for the disk or a server on the loop."""
        self._database.refuse()
        await asyncio.to_thread(self.close)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file after the next commit."""
        self._database.checkpoint()

    @property
    def commits(self) -> int:
        """Transactions committed so far."""
        return self._database.commits

    @property
    def shared(self) -> bool:
        """True if other processes may work on the same database."""
        return self._database.shared

    @property
    def membership(self) -> Membership:
        """The number by which this process claims work."""
        return self._database.membership

    def has_lost(self, tx: Tx) -> bool:
        """Return whether another process that claims work may have ended."""
        return self._database.has_lost(tx)

    def expel(self, tx: Tx) -> list[int]:
        """Unit of work: return the numbers of processes that have ended, once.

        The caller takes back their claims in the same transaction.
        """
        return self._database.expel(tx)

    async def write(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(tx, *args)` in a transaction and return its value once it is durable.

        Cancelling the caller does not cancel the unit. Raises what the unit raises, or
        `Unavailable`.
        """
        value: T = await self.submit(run, args)
        return value

    async def claim(self, run: Callable[..., T], *args: Any) -> T:
        """As `write`, but without waiting for the disk: claims lost with the power are repeated."""
        value: T = await self.submit(run, args, durable=False)
        return value

    async def read(self, run: Callable[..., T], *args: Any) -> T:
        """Run `run(tx, *args)` on a read-only connection. Raises `Unavailable`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self._read, run, args
        )

    async def read_shared(self, run: Callable[..., T], *args: Any) -> T:
        """As `read`. Callers that ask for the same in one iteration of the loop share one read.

        A read that has begun is not joined: it may have missed a commit that the caller knows of.
        """
        key = (run, args)
        task: asyncio.Task[T] | None = self._shared_reads.get(key)
        if task is None:
            task = self._shared_reads[key] = asyncio.create_task(self._begin_shared(run, args))
        return await asyncio.shield(task)

    async def _begin_shared(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        del self._shared_reads[run, args]
        return await self.read(run, *args)

    def batched(self, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> Batch[ItemT, R]:
        """Return a function of one item; concurrent items share a call of `run`."""
        return Batch(self, run)

    async def listen(self, notify: Callable[[str], None]) -> None:
        """Call `notify` on this loop with each stage that another process woke.

        Return when this process has a number to claim with, or is fenced until it has one.
        """
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(
            self._database.listen, lambda stage: loop.call_soon_threadsafe(notify, stage)
        )

    def wake(self, stage: str) -> None:
        """Wake a stage in the other processes. Best effort: their tick finds the work anyway."""
        if self.shared and stage not in self._woken:
            self._woken.add(stage)
            asyncio.get_running_loop().call_later(_DEBOUNCE, self._wake, stage)

    def _wake(self, stage: str) -> None:
        self._woken.discard(stage)
        try:
            self.submit(notify.wake, (stage,))
        except Unavailable:
            return

    async def clock_offset(self, now: Callable[[], datetime]) -> float:
        """Return by how many seconds the clock of a shared database is ahead of `now`."""
        before = now()
        there = await self.read(postgres.server_time)
        return (there - before - (now() - before) / 2).total_seconds()

    def submit(
        self,
        run: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        item: bool = False,
        durable: bool = True,
    ) -> asyncio.Future[Any]:
        """Queue a unit, or one item of a batch, and return the future of its value.

        Raises `Unavailable`.
        """
        unit = Unit(run, args, asyncio.get_running_loop().create_future(), item, durable)
        self._database.put(unit)
        # The unit runs even if its waiter is cancelled: the writer only resolves the future.
        return unit.future

    def _read(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        try:
            try:
                return self._once(run, args)
            except sa.exc.DBAPIError as error:
                if not transient(error):
                    raise
                # An idle connection had died, and the pool with it; the next one is new.
                return self._once(run, args)
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            raise as_unavailable(error) from error

    def _once(self, run: Callable[..., T], args: tuple[Any, ...]) -> T:
        with self._database.reading.connect() as connection:
            return run(connection, *args)


class Batch(Generic[ItemT, R]):
    """`await batch(item)` returns the value of one item of a set-based unit."""

    def __init__(self, store: Store, run: Callable[[Tx, list[ItemT]], Sequence[R]]) -> None:
        self._store = store
        self._run = run

    async def __call__(self, item: ItemT) -> R:
        """Return the value of `item` once it is durable. Raises `Unavailable`."""
        value: R = await self._store.submit(self._run, (item,), item=True)
        return value
