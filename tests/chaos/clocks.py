"""System clocks that are wrong by five seconds, from the start or after a jump."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.chaos.run import Fault
from tests.chaos.testbed import Environment, Testbed
from tests.harness.processes import Replica

#: Seconds after its start at which the clock of a process jumps, during the load.
_JUMP = 6.0


def _skewed(seconds: float) -> Environment:
    """Give the first replica a wrong clock and the second a jump. A single replica jumps."""

    def environment(bed: Testbed, replica: Replica) -> Mapping[str, str]:
        place = bed.replicas.index(replica)
        jumps = place == len(bed.replicas[:2]) - 1
        if place > 1:
            return {}
        return {"CHAOS_CLOCK": json.dumps([seconds, _JUMP if jumps else 0.0])}

    return environment


async def _until_loaded(bed: Testbed) -> None:
    while await bed.pause(1.0, 1.0):
        bed.hits += 1


#: With the product's own leases: a skew of five seconds is within their margin.
FAULTS = tuple(
    Fault(f"clock {seconds:+.0f} s", _until_loaded, environment=_skewed(seconds), leases="own")
    for seconds in (5.0, -5.0)
)
