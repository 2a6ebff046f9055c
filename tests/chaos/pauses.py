"""Processes that stand still for longer than their claims last, and then go on as if nothing had happened (zombies)."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.run import Fault
from tests.chaos.stage import Environment, Stage
from tests.harness.api_caller import eventually
from tests.harness.audit import Finding
from tests.harness.processes import Replica
from tests.harness.short_leases import LEASE

#: Seconds. Others have had the time to take over, and to find out.
_PAUSE = LEASE + 2.5
#: Seconds. Long enough for a database to give up a transaction in which nothing happens.
_HELD = 25.0


async def _at_random(it: Stage) -> None:
    while await it.pause(0.3, 1.5):
        replica = it.anyone()
        it.send(replica, signal.SIGSTOP)
        it.hits += 1
        await asyncio.sleep(_PAUSE)
        it.send(replica, signal.SIGCONT)


def _at(point: str, passage: int) -> Environment:
    def environment(it: Stage, replica: Replica) -> Mapping[str, str]:
        if replica is not it.replicas[0]:
            return {}
        return {"CHAOS_POINT": json.dumps([point, passage, int(signal.SIGSTOP)])}

    return environment


async def _stopped(it: Stage) -> None:
    """Wait until the first replica has stopped itself."""
    replica = it.replicas[0]

    async def stopped() -> bool:
        return replica.child is not None and _state(replica.child.pid) == "T"

    await eventually(stopped, "the process stops itself", 60)
    it.hits += 1


async def _woken(it: Stage) -> None:
    """Wake the first replica when its claims have run out."""
    await _stopped(it)
    await asyncio.sleep(_PAUSE)
    it.send(it.replicas[0], signal.SIGCONT)


async def _woken_asker(it: Stage) -> None:
    """The same of a replica that asks. While there are others it may never have to: they tick a little earlier."""
    others = it.replicas[1:]
    await asyncio.sleep(_PAUSE)
    for one in others:
        it.send(one, signal.SIGSTOP)
    await _stopped(it)
    for one in others:
        it.send(one, signal.SIGCONT)
    await asyncio.sleep(_PAUSE)
    it.send(it.replicas[0], signal.SIGCONT)


async def _held(it: Stage) -> None:
    """Wake the first replica only after others must have gone on without it, though it holds what they need."""
    await _stopped(it)
    await asyncio.sleep(_HELD)
    if len(it.replicas) > 1:
        sent = len((await it.sim.report())["renders"])
        if sent < it.load.orders / 2:
            words = f"one process stood still for {_HELD} s, and {sent} of {it.load.orders} jobs were sent meanwhile"
            it.wrong.append(Finding("stuck", words))
    it.send(it.replicas[0], signal.SIGCONT)


def _state(pid: int) -> str:
    """Return the letter of a process's state; T is stopped (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _zombie(name: str, point: str, passage: int = 2) -> Fault:
    return Fault(f"zombie: {name}", _woken, environment=_at(point, passage))


FAULTS = (
    Fault("zombie: at random", _at_random),
    _zombie("claimed, not sent", "submit: claimed, not sent", 4),
    _zombie("sent, not recorded", "submit: sent, answer lost", 4),
    Fault(
        "zombie: holds the account's row",
        _held,
        environment=_at("submit: before the claim's commit", 2),
    ),
    _zombie("push, before commit", "push: before commit", 4),
    Fault(
        "zombie: asked, before commit",
        _woken_asker,
        {"drop_push": 0.5},
        _at("poll: asked, before commit", 1),
    ),
    _zombie("delivery sent, not recorded", "deliver: sent, not recorded", 4),
)
