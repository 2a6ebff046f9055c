"""Processes that end at random moments: killed, or told to end and replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine

from tests.chaos.run import Fault
from tests.chaos.stage import Stage


def every(
    least: float, most: float, how: signal.Signals
) -> Callable[[Stage], Coroutine[None, None, None]]:
    """Return a fault that sends some replica a signal every few seconds, for as long as there is load."""

    async def strike(it: Stage) -> None:
        while await it.pause(least, most):
            # Alone, a process that never gets to serve would take nothing on.
            if len(it.replicas) == 1:
                await it.ready()
                await it.pause(0, least)
            it.send(it.anyone(), how)
            # The stage counts the killed.
            it.hits += how is not signal.SIGKILL

    return strike


RANDOM = Fault("kill -9 at random", every(0.5, 2.5, signal.SIGKILL))
FAULTS = (RANDOM, Fault("rolling restart (SIGTERM)", every(0.8, 1.6, signal.SIGTERM)))
