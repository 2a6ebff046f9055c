"""How a primary dies, and how long it takes until the service acknowledges orders again."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Literal

from tests.failover.callers import Callers
from tests.failover.patroni import Cluster, Node
from tests.harness.api_caller import eventually

#: `server`: PostgreSQL alone is killed. `machine`: Patroni too, so its lock has to expire.
Kind = Literal["server", "machine"]
#: Seconds of load before a kill, and those for which the primary has sent nothing by then.
_LOADED = 4.0
_BEHIND = 1.0
#: Seconds for a new primary, and more than a silent server costs a caller.
_TAKEN_OVER = 90.0


async def strike(cluster: Cluster, callers: Callers, kind: Kind) -> float:
    """Kill the primary under load, and return the seconds until an order was acknowledged.

    Its standbys are a second behind when it dies: without synchronous replication, what was
    acknowledged meanwhile is lost. Afterwards it comes back as a standby.
    """
    await asyncio.sleep(_LOADED)
    primary = await asyncio.to_thread(cluster.primary)
    primary.stop_sending()
    await asyncio.sleep(_BEHIND)
    await asyncio.to_thread(_kill, primary, kind)
    died = time.monotonic()
    await eventually(partial(_acknowledged, callers, died), "orders are accepted", _TAKEN_OVER)
    if kind == "machine":
        primary.start()
    await asyncio.to_thread(cluster.wait_complete)
    return callers.first_after(died)


def _kill(primary: Node, kind: Kind) -> None:
    if kind == "machine":
        primary.kill()
    else:
        primary.kill_server()


async def _acknowledged(callers: Callers, since: float) -> bool:
    return callers.first_after(since) < float("inf")
