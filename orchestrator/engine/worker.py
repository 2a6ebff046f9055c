"""The loop that every stage with work of its own runs: wait, take what is due, work on it, until told to stop.

A nudge is speed; the tick is the promise. Whoever commits something due nudges the stage that does it, and a tick
nudges all of them every second, so a lost nudge costs a second and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

import structlog

from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.logs import traceback_of

log = structlog.get_logger()
Work = TypeVar("Work")


class Claimed(list[Work]):
    """What a stage took.

    `more` says that its own limits left something behind: look again as soon as a piece ends. `full` says that
    somebody else's did: look again when there is room.
    """

    def __init__(
        self, pieces: Iterable[Work] = (), *, more: bool = False, full: bool = False
    ) -> None:
        super().__init__(pieces)
        self.more = more
        self.full = full


class Worker(Generic[Work]):
    """Keeps up to `limit` pieces of one stage's work under way.

    `take(n)` claims up to n pieces, `work(piece)` does one and records its end itself, `give_back(pieces)` releases
    what was not begun.
    """

    def __init__(
        self,
        name: str,
        *,
        limit: int,
        take: Callable[[int], Awaitable[Claimed[Work]]],
        work: Callable[[Work], Awaitable[None]],
        give_back: Callable[[Sequence[Work]], Awaitable[None]],
    ) -> None:
        self.name = name
        self._limit = limit
        self._take = take
        self._work = work
        self._give_back = give_back
        self._due = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Work] = {}
        self._more = False
        self._full = False
        self._stopping = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.create_task(self._run(), name=self.name)

    def wake(self) -> None:
        """Look for work soon."""
        self._due.set()

    def make_room(self) -> None:
        """Look for work soon, if the last look had to leave some for want of room elsewhere."""
        if self._full:
            self._due.set()

    @property
    def has_room(self) -> bool:
        """True if it could take more work now."""
        return len(self._tasks) < self._limit

    @property
    def busy(self) -> int:
        """How many pieces are under way."""
        return len(self._tasks)

    async def stop(self, patience: float) -> None:
        """Take nothing more, let what is under way end within `patience` seconds, cancel the rest.

        A cancelled piece keeps its claim until the lease runs out: it may have been sent.
        """
        self._stopping.set()
        self._due.set()
        if self._loop is not None:
            await self._loop
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=patience)
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
                log.error(
                    "stage failed to take work", stage=self.name, exception=traceback_of(error)
                )

    async def _fill(self) -> None:
        while not self._stopping.is_set() and (room := self._limit - len(self._tasks)) > 0:
            # Room that is made while we look may have come too late for the look.
            self._full = True
            pieces = await self._take(room)
            self._more, self._full = pieces.more, pieces.full
            if self._stopping.is_set():
                await self._give_back(pieces)
                return
            for piece in pieces:
                task = asyncio.create_task(self._one(piece))
                self._tasks[task] = piece
                task.add_done_callback(self._ended)
            if not (pieces and pieces.more):
                return

    async def _one(self, piece: Work) -> None:
        try:
            await self._work(piece)
        except Unavailable as error:
            log.warning(
                "work could not be recorded; its lease will bring it back",
                stage=self.name,
                error=str(error),
            )
        except Exception as error:
            log.error(
                "work failed; its lease will bring it back",
                stage=self.name,
                exception=traceback_of(error),
            )

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if self._more:
            self._due.set()
