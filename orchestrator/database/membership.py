"""The number by which a process claims work, and until when it may act on its claims.

On SQLite there is one process. On PostgreSQL a process holds the lock of its number, and confirms
that several times a second. A process that cannot confirm it fences itself: it claims nothing, and
sends nothing for what it has claimed, before others can take its claims back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from orchestrator.foundation.clock import Clock, SystemClock

#: The number of a process that holds no lock, as behind a connection pooler. Its claims come back
#: by their lease alone.
UNBOUND = 0
#: The number of the only process.
ALONE = 1
_ALWAYS = datetime.max.replace(tzinfo=UTC)


class _Confirmed(NamedTuple):
    number: int
    until: datetime


class Membership:
    """Changed by the thread that holds the lock, read by the event loop.

    `clock` advances evenly, also while the machine sleeps.
    """

    def __init__(self, number: int = UNBOUND, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._confirmed: _Confirmed | None = _Confirmed(number, _ALWAYS)

    @property
    def number(self) -> int | None:
        """The number to claim with now; None while the process is fenced.

        Read it in the unit of work that claims: units wait, and are run again.
        """
        held = self._confirmed
        return held.number if held is not None and self._clock.now() < held.until else None

    def holds(self, number: int | None) -> bool:
        """True if this process may act on what was claimed with that number."""
        return number is not None and self.number == number

    def now(self) -> datetime:
        """Return the time by which `confirm` counts."""
        return self._clock.now()

    def confirm(self, number: int, until: datetime = _ALWAYS) -> None:
        """Note that the process holds a number until then."""
        self._confirmed = _Confirmed(number, until)

    def fence(self) -> None:
        """Note that the process may have lost its number."""
        self._confirmed = None
