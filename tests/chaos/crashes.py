"""Crashes at every point after which the design requires recovery."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping

from tests.chaos.run import Fault
from tests.chaos.testbed import Environment, Testbed
from tests.harness.audit import Json
from tests.harness.processes import Replica

#: Crashes per run.
_CRASHES = 4
#: Pushes are dropped, so that jobs are polled.
_SILENT: Json = {"drop_push": 0.5}
#: Pushes arrive while a poll is in progress, so that both report.
_TOGETHER: Json = {"delay_push": 0.9, "delay_seconds": [1.0, 2.6]}
_EARLY: Json = {"push_before_answer": 1.0}
_MIDDLE = (
    "submit: claimed, not sent",
    "submit: sent, answer lost",
    "push: before commit",
    "deliver: sent, not recorded",
)


def _at(point: str, furthest: int) -> Environment:
    """Arm each process with a passage of at most `furthest`, until enough have crashed."""

    def environment(bed: Testbed, _: Replica) -> Mapping[str, str]:
        if bed.hits >= _CRASHES:
            return {}
        return {
            "CHAOS_POINT": json.dumps([point, bed.rng.randint(1, furthest), int(signal.SIGKILL)])
        }

    return environment


def in_the_middle(bed: Testbed, _: Replica) -> Mapping[str, str]:
    """Arm a process with a point between an action and the record of its outcome."""
    return {
        "CHAOS_POINT": json.dumps(
            [bed.rng.choice(_MIDDLE), bed.rng.randint(8, 30), int(signal.SIGKILL)]
        )
    }


async def _wait(_: Testbed) -> None:
    """Return at once: the processes send themselves the signal."""


def _crash(name: str, point: str, furthest: int = 3, world: Json | None = None) -> Fault:
    return Fault(name, _wait, world or {}, _at(point, furthest))


FAULTS = (
    _crash("crash: starting", "starting", 1),
    _crash("crash: before the accept commit", "accept: before commit"),
    _crash("crash: accepted, 202 not seen", "accept: committed, 202 not seen"),
    _crash("crash: before the claim's commit", "submit: before the claim's commit"),
    _crash("crash: claimed, not sent", "submit: claimed, not sent", 5),
    _crash("crash: sent, answer lost", "submit: sent, answer lost", 5),
    _crash("crash: push before the answer", "submit: sent, answer lost", 5, _EARLY),
    _crash("crash: before the answer's commit", "submit: before the answer's commit"),
    _crash("crash: push, before commit", "push: before commit", 6),
    _crash("crash: push, 200 lost", "push: committed, 200 lost", 6),
    _crash("crash: asked, before commit", "poll: asked, before commit", 3, _SILENT),
    _crash("crash: poll and push together", "poll: asked, before commit", 3, _TOGETHER),
    _crash("crash: delivery claimed, not sent", "deliver: claimed, not sent", 6),
    _crash("crash: delivery sent, not recorded", "deliver: sent, not recorded", 6),
    _crash("crash: before the record's commit", "deliver: before the record's commit"),
)
