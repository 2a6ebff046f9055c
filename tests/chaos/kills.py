"""Processes that are killed, or terminated and replaced, at random moments."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine

from tests.chaos.run import Fault
from tests.chaos.testbed import Testbed


def every(
    least: float, most: float, how: signal.Signals
) -> Callable[[Testbed], Coroutine[None, None, None]]:
    """Return a fault that signals a random replica every few seconds while the load runs."""

    async def strike(bed: Testbed) -> None:
        while await bed.pause(least, most):
            # A single replica that never becomes ready would accept nothing.
            if len(bed.replicas) == 1:
                await bed.ready()
                await bed.pause(0, least)
            bed.send(bed.any_replica(), how)
            # The test bed counts SIGKILL.
            bed.hits += how is not signal.SIGKILL

    return strike


RANDOM = Fault("kill -9 at random", every(0.5, 2.5, signal.SIGKILL))
#: The claims of a killed process cannot run out in the time of a run: they have to be taken back.
LONG_LEASES = Fault(
    "kill -9 at random, with its own leases", every(1.5, 4.0, signal.SIGKILL), leases="own"
)
FAULTS = (RANDOM, LONG_LEASES, Fault("rolling restart (SIGTERM)", every(0.8, 1.6, signal.SIGTERM)))
