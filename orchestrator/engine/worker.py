"""The loop of a stage: wait, claim due work, do it, until it is stopped.

A wake-up is an optimisation, the tick is the guarantee: a commit of due work wakes its stage,
and a tick wakes every stage once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

from orchestrator.database.store import Batch
from orchestrator.foundation.clock import Clock, Rng, jittered
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.logs import traceback_of

log = structlog.get_logger()
WorkT = TypeVar("WorkT")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

#: Seconds for which an outcome is tried to be recorded. Shorter than what any lease leaves.
RETRY_FOR = 20.0


class Claimed(list[WorkT]):
    """The work that a stage claimed.

    `more`: our own limit cut the batch, so claim again as soon as one item ends. `full`: the limit
    of an account or a subscriber cut it, so claim again when a slot becomes free.
    """

    def __init__(
        self, items: Iterable[WorkT] = (), *, more: bool = False, full: bool = False
    ) -> None:
        super().__init__(items)
        self.more = more
        self.full = full


class Stage(Protocol[WorkT]):
    """What a worker drives.

    `take(n)` claims up to n items, `work(item)` does one and records its outcome,
    `give_back(items)` releases items that were not begun.
    """

    async def take(self, room: int) -> Claimed[WorkT]: ...
    async def work(self, item: WorkT, /) -> None: ...
    async def give_back(self, items: Sequence[WorkT], /) -> None: ...


class Worker(Generic[WorkT]):
    """Keeps up to `limit` items of one stage's work in progress."""

    def __init__(self, name: str, stage: Stage[WorkT], *, limit: int) -> None:
        self.name = name
        self._stage = stage
        self._limit = limit
        self._due = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._more = False
        # Nothing is known before the first look.
        self._full = True
        self._stopping = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start on the running event loop."""
        self._loop = asyncio.create_task(self._run(), name=self.name)

    def wake(self) -> None:
        """Look for work soon."""
        self._due.set()

    def make_room(self) -> None:
        """Look for work soon, if the last claim left some because an account or a lane was full."""
        if self._full:
            self._due.set()

    @property
    def has_room(self) -> bool:
        """True if it could take more work now."""
        return self.room > 0

    @property
    def room(self) -> int:
        """How much more work it could take now."""
        return self._limit - len(self._tasks)

    @property
    def is_idle(self) -> bool:
        """True if it has room, its last look left no work, and it is about to look for none."""
        waits = not (self._due.is_set() or self._stopping.is_set())
        return waits and not (self._more or self._full) and self.has_room

    @property
    def busy(self) -> int:
        """The number of items in progress."""
        return len(self._tasks)

    async def stop(self, grace: float) -> None:
        """Claim nothing more, let work in progress end within `grace` seconds, cancel the rest.

        A cancelled item keeps its claim until that is taken back: its request may have been sent.
        """
        self._stopping.set()
        self._due.set()
        if self._loop is not None:
            await self._loop
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._due.wait()
            self._due.clear()
            try:
                await self._fill()
            except Unavailable as error:
                log.warning("stage waits for the database", stage=self.name, error=str(error))
            except Exception as error:
                trace = traceback_of(error)
                log.error("stage failed to take work", stage=self.name, exception=trace)

    async def _fill(self) -> None:
        while not self._stopping.is_set() and (room := self.room) > 0:
            # A slot that becomes free during the claim may have been missed by it.
            self._full = True
            claimed = await self._stage.take(room)
            self._more, self._full = claimed.more, claimed.full
            if self._stopping.is_set():
                await self._stage.give_back(claimed)
                return
            for item in claimed:
                self._begin(self._do(item))
            if not (claimed and claimed.more):
                return

    def begin(self, items: Sequence[WorkT]) -> None:
        """Do work that was claimed otherwise."""
        if self._stopping.is_set():
            self._begin(self._give_back(items))
            return
        for item in items:
            self._begin(self._do(item))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _give_back(self, items: Sequence[WorkT]) -> None:
        with contextlib.suppress(Unavailable):
            # Else they are taken back when this process has ended.
            await self._stage.give_back(items)

    async def _do(self, item: WorkT) -> None:
        try:
            await self._stage.work(item)
        except Unavailable as error:
            message = "work could not be recorded; its lease will bring it back"
            log.warning(message, stage=self.name, error=str(error))
        except Exception as error:
            message = "work failed; its lease will bring it back"
            log.error(message, stage=self.name, exception=traceback_of(error))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._more:
            self._due.set()


async def record_with_retry(
    batch: Batch[ItemT, ResultT], item: ItemT, clock: Clock, rng: Rng
) -> ResultT:
    """Record an outcome, with retries while the database is unavailable.

    A vendor's acceptance cannot be learned twice. Raises `Unavailable` after `RETRY_FOR` seconds;
    the claim's lease then brings the work back.
    """
    started = clock.monotonic()
    while True:
        try:
            return await batch(item)
        except Unavailable:
            if clock.monotonic() - started > RETRY_FOR:
                raise
            await clock.sleep(jittered(0.5, rng, 1.0))
