"""How a primary dies, and the seconds until its service works again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Recovery:
    """Seconds from a kill until: an order was refused, there was a new primary, an order was
    acknowledged that was sent after the kill, and the cluster was complete again.
    """

    kind: Kind
    refused: float
    promoted: float
    acknowledged: float
    complete: float


async def strike(cluster: Cluster, callers: Callers, kind: Kind) -> Recovery:
    """Kill the primary under load, wait until all is well, and return what took how long.

    Its standbys are a second behind when it dies: without synchronous replication, what was
    acknowledged meanwhile is lost. Afterwards it comes back as a standby.
    """
    await asyncio.sleep(_LOADED)
    primary = await asyncio.to_thread(cluster.primary)
    primary.stop_sending()
    await asyncio.sleep(_BEHIND)
    await asyncio.to_thread(_kill, primary, kind)
    died = time.monotonic()
    async with asyncio.TaskGroup() as both:
        promoted = both.create_task(_promoted(cluster, primary))
        acknowledged = partial(_acknowledged, callers, died)
        await eventually(acknowledged, "orders are accepted", _TAKEN_OVER)
    if kind == "machine":
        primary.start()
    await asyncio.to_thread(cluster.wait_complete)
    complete = time.monotonic()
    refused = min((at for at in callers.refusals if at > died), default=died)
    first = callers.first_after(died)
    return Recovery(kind, refused - died, promoted.result() - died, first, complete - died)


def _kill(primary: Node, kind: Kind) -> None:
    if kind == "machine":
        primary.kill()
    else:
        primary.kill_server()


async def _promoted(cluster: Cluster, old: Node) -> float:
    """Return when another server than the old one has become the primary."""

    async def is_promoted() -> bool:
        roles = await asyncio.to_thread(cluster.roles)
        return any(role == "leader" and name != old.name for name, role in roles.items())

    await eventually(is_promoted, "another server is the primary", _TAKEN_OVER)
    return time.monotonic()


async def _acknowledged(callers: Callers, since: float) -> bool:
    return callers.first_after(since) < float("inf")
