"""Processes that are paused for longer than their leases and then continue (zombies)."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.run import Fault
from tests.chaos.testbed import Environment, Testbed
from tests.harness.api_caller import eventually
from tests.harness.audit import Finding
from tests.harness.processes import Replica
from tests.harness.short_leases import LEASE

#: Seconds, after which other replicas have taken over.
_PAUSE = LEASE + 2.5
#: Seconds, after which a database ends an idle transaction.
_LONG_PAUSE = 25.0


async def _pause_at_random(bed: Testbed) -> None:
    while await bed.pause(0.3, 1.5):
        replica = bed.any_replica()
        bed.send(replica, signal.SIGSTOP)
        bed.hits += 1
        await asyncio.sleep(_PAUSE)
        bed.send(replica, signal.SIGCONT)


def _at(point: str, passage: int) -> Environment:
    def environment(bed: Testbed, replica: Replica) -> Mapping[str, str]:
        if replica is not bed.replicas[0]:
            return {}
        return {"CHAOS_POINT": json.dumps([point, passage, int(signal.SIGSTOP)])}

    return environment


async def _wait_until_stopped(bed: Testbed) -> None:
    """Wait until the first replica has stopped itself."""
    replica = bed.replicas[0]

    async def stopped() -> bool:
        return replica.child is not None and _state(replica.child.pid) == "T"

    await eventually(stopped, "the process stops itself", 60)
    bed.hits += 1


async def _resume_after_lease(bed: Testbed) -> None:
    """Resume the first replica after its leases have expired."""
    await _wait_until_stopped(bed)
    await asyncio.sleep(_PAUSE)
    bed.send(bed.replicas[0], signal.SIGCONT)


async def _resume_poller(bed: Testbed) -> None:
    """Resume a stopped poller after its leases have expired.

    The other replicas are paused until it polls: they tick earlier and would poll everything.
    """
    others = bed.replicas[1:]
    await asyncio.sleep(_PAUSE)
    for other in others:
        bed.send(other, signal.SIGSTOP)
    await _wait_until_stopped(bed)
    for other in others:
        bed.send(other, signal.SIGCONT)
    await asyncio.sleep(_PAUSE)
    bed.send(bed.replicas[0], signal.SIGCONT)


async def _resume_late(bed: Testbed) -> None:
    """Resume the first replica after others must have continued, although it holds a row lock."""
    await _wait_until_stopped(bed)
    await asyncio.sleep(_LONG_PAUSE)
    if len(bed.replicas) > 1:
        sent = len((await bed.sim.report())["renders"])
        if sent < bed.load.orders / 2:
            text = f"{sent} of {bed.load.orders} jobs were sent while one process was paused"
            bed.wrong.append(Finding("stuck", text))
    bed.send(bed.replicas[0], signal.SIGCONT)


def _state(pid: int) -> str:
    """Return the state letter of a process; T is stopped (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _zombie(name: str, point: str, passage: int = 2) -> Fault:
    return Fault(f"zombie: {name}", _resume_after_lease, environment=_at(point, passage))


FAULTS = (
    Fault("zombie: at random", _pause_at_random),
    _zombie("claimed, not sent", "submit: claimed, not sent", 4),
    _zombie("connected, not sent", "egress: connected, not sent", 4),
    _zombie("sent, not recorded", "submit: sent, answer lost", 4),
    Fault(
        "zombie: holds the account's row",
        _resume_late,
        environment=_at("submit: before the claim's commit", 2),
    ),
    _zombie("push, before commit", "push: before commit", 4),
    Fault(
        "zombie: asked, before commit",
        _resume_poller,
        {"drop_push": 0.5},
        _at("poll: asked, before commit", 1),
    ),
    _zombie("delivery sent, not recorded", "deliver: sent, not recorded", 4),
)
