"""Answers of the API that open pages share while they are looked at again.

A page that is open looks again when an event comes. A thousand of them ask twice a second together,
not each for itself. A page that is loaded, and one after a write, asks for itself.

Pages wait longer after an event (`app.js`) than an answer is shared: none is from before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from orchestrator.foundation.clock import Clock

#: Seconds for which an answer is shared, and answers that are kept.
_SHARED, _MOST = 0.5, 64


class Answer(NamedTuple):
    """The status and the body of a response of the API."""

    status: int
    body: bytes


class Question(NamedTuple):
    """What an answer depends on: what the reader's key may do, and what is asked for."""

    scope: str
    path: str
    query: str


class RecentAnswers:
    """The answers of the last half second, by question. Those that are on their way count too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[Question, tuple[float, asyncio.Task[Answer]]] = {}

    async def get(self, question: Question, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Return a recent answer, or ask; None if there are too many questions to keep another.

        What `ask` raises is raised to all who wait for it.
        """
        now = self._clock.monotonic()
        until, task = self._found.get(question, (0.0, None))
        if task is None or until <= now:
            self._found = {one: kept for one, kept in self._found.items() if kept[0] > now}
            if len(self._found) >= _MOST:
                return None
            task = asyncio.create_task(_asked(ask), name="dashboard question")
            # All who wait may have left when it fails.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._found[question] = now + _SHARED, task
        # A reader who leaves takes the answer from no other.
        return await asyncio.shield(task)


async def _asked(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    return await ask()
