"""The sessions of processes at a shared server: the locks of their numbers, lost and taken again.

The `process` table is real. Locks, and when each side notices that a session has ended, are
simulated.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.membership import ALONE, Membership
from orchestrator.database.postgres import session as postgres
from orchestrator.database.store import Tx
from orchestrator.database.tables import process
from orchestrator.foundation.clock import after
from tests.simulate.clock import START
from tests.simulate.database import engine

#: Seconds until a process that has lost its session connects again.
_RECONNECTS = (0.1, 0.5, 0.5, 5.0, 30.0)


class Locks:
    """The locks of numbers at the server."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._last = 0
        #: When the lock of each number became free; None while it is held.
        self._free: dict[int, float | None] = {}

    def enter(self, number: int | None) -> int:
        """Take the lock of a number if its row is still there, else that of a new one."""
        with engine().begin() as tx:
            if number is not None:
                mine = sa.update(process).where(process.c.id == number).values(lost_at=None)
                if tx.execute(mine).rowcount:
                    self._free[number] = None
                    return number
            self._last += 1
            tx.execute(sa.insert(process).values(id=self._last, started_at=START))
        self._free[self._last] = None
        return self._last

    def end(self, number: int) -> None:
        """Free the lock of a number: its session has ended."""
        if self._free[number] is None:
            self._free[number] = self._time()

    def free_for(self, number: int) -> float:
        """Return for how many seconds the lock of a number has been free."""
        since = self._free.get(number)
        return 0.0 if since is None else self._time() - since

    def has_lost(self, tx: Tx) -> bool:
        """As of PostgreSQL."""
        return any(self._free[number] is not None for number in tx.scalars(sa.select(process.c.id)))

    def expel(self, tx: Tx) -> list[int]:
        """As of PostgreSQL."""
        free = [number for number, since in self._free.items() if since is not None]
        now, gone = after(START, self._time()), process.c.id.in_(free)
        marked = sa.update(process).where(gone, process.c.lost_at.is_(None))
        tx.execute(marked.values(lost_at=now))
        over = process.c.lost_at <= after(now, -postgres.GRACE)
        return list(tx.scalars(sa.delete(process).where(gone, over).returning(process.c.id)))


class Span(NamedTuple):
    """Virtual times."""

    begin: float
    end: float


_NEVER = Span(0.0, 0.0)


class SimulatedMembership(Membership):
    """The number of one process. Between two probes it does not know whether its session lives."""

    def __init__(self, time: Callable[[], float], locks: Locks | None, rng: random.Random) -> None:
        super().__init__(ALONE)
        self._time = time
        self._locks = locks
        self._rng = rng
        self._number = locks.enter(None) if locks else ALONE
        #: When the process is fenced: its session has ended, or it stands still.
        self._lost, self._frozen = _NEVER, _NEVER

    @property
    def number(self) -> int | None:
        """The number to claim with now; None while the process is fenced."""
        now = self._time()
        fenced = any(span.begin <= now < span.end for span in (self._lost, self._frozen))
        return None if fenced else self._number

    def freeze(self, seconds: float) -> None:
        """Note that the process stands still from now on: it asks again when it goes on."""
        if self._locks:
            now = self._time()
            self._frozen = Span(now + postgres.FENCE, now + seconds + self._rng.uniform(0, 0.5))

    def lose(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        """End the session. The process notices within the fence, and connects again."""
        if self._locks is None or self._lost is not _NEVER:
            return
        self._locks.end(self._number)
        notices = self._rng.uniform(0, postgres.FENCE)
        self._lost = Span(self._time() + notices, float("inf"))
        later(notices + self._rng.choice(_RECONNECTS), self._enter)

    def die(self) -> None:
        """End the session with the process."""
        if self._locks is not None:
            self._locks.end(self._number)

    def _enter(self) -> None:
        assert self._locks is not None
        self._number, self._lost = self._locks.enter(self._number), _NEVER
