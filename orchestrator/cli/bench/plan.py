"""What a bench is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.foundation.errors import OrchestratorError


class Spoiled(OrchestratorError):
    """A run measured nothing: a process ended, or work that was begun did not arrive. The message says which."""


def _silently(words: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure, how often, on which database, and what is in it before the start."""

    #: URL of a PostgreSQL database, in which schemas are made and dropped, or of a SQLite file, whose folder says which
    #: disk is measured. Empty: the folder for temporary files.
    database: str = ""
    #: Of each measurement.
    seconds: float = 5.0
    #: Ours and its limits take turns so often.
    rounds: int = 3
    #: Finished jobs, with rows of history; where a bench has a size of its own, that size.
    jobs: int | None = None
    #: Rows of history (pushes, events, deliveries, attempts, traces), at least one of each for every job.
    history: int = 0
    #: One is told; the others want other events. In `fanout` all are told.
    subscribers: int | None = None
    #: The work is spread evenly over them.
    accounts: int | None = None
    #: Deliveries of a dead subscriber that wait for their next attempt.
    waiting: int | None = None
    #: Told what is under way.
    tell: Callable[[str], None] = _silently

    def sizes(self, steps: tuple[int, ...], most: int) -> list[int]:
        """Return the steps below a size, and the size."""
        return [*(step for step in steps if step < most), most]
