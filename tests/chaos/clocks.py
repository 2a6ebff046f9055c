"""Clocks that are wrong by five seconds, from the start or from one moment to the next."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.chaos.run import Fault
from tests.chaos.stage import Environment, Stage
from tests.harness.processes import Replica

#: Seconds after its start in which a process's clock jumps: into the load.
_JUMP = 6.0


def _wrong(seconds: float) -> Environment:
    """Of several replicas the first is wrong from the start, the second jumps, the others are right. One jumps."""

    def environment(it: Stage, replica: Replica) -> Mapping[str, str]:
        place = it.replicas.index(replica)
        jumps = place == len(it.replicas[:2]) - 1
        if place > 1:
            return {}
        return {"CHAOS_CLOCK": json.dumps([seconds, _JUMP if jumps else 0.0])}

    return environment


async def _jumped(it: Stage) -> None:
    while await it.pause(1.0, 1.0):
        it.hits += 1


#: With the product's own claims: five seconds are within their margin, and not within one of a second.
FAULTS = tuple(
    Fault(f"clock {seconds:+.0f} s", _jumped, environment=_wrong(seconds), leases="own")
    for seconds in (5.0, -5.0)
)
