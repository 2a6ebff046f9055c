"""Crashes at every place where design and code say that one leaves something behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping

from tests.chaos.run import Fault
from tests.chaos.stage import Environment, Stage
from tests.harness.audit import Json
from tests.harness.processes import Replica

#: Crashes of one run.
_CRASHES = 4
#: Silence, so that there is something to ask.
_SILENT: Json = {"drop_push": 0.5}
#: Pushes about when the question is asked, so that both tell.
_TOGETHER: Json = {"delay_push": 0.9, "delay_seconds": [1.0, 2.6]}
_EARLY: Json = {"push_before_answer": 1.0}
_MIDDLE = (
    "submit: claimed, not sent",
    "submit: sent, answer lost",
    "push: before commit",
    "deliver: sent, not recorded",
)


def _at(point: str, furthest: int) -> Environment:
    """Arm each process with a passage up to `furthest`, until there were enough crashes."""

    def environment(it: Stage, _: Replica) -> Mapping[str, str]:
        if it.hits >= _CRASHES:
            return {}
        return {
            "CHAOS_POINT": json.dumps([point, it.rng.randint(1, furthest), int(signal.SIGKILL)])
        }

    return environment


def in_the_middle(it: Stage, _: Replica) -> Mapping[str, str]:
    """Arm a process with a place where it has just begun something, or not yet written down how it ended."""
    return {
        "CHAOS_POINT": json.dumps(
            [it.rng.choice(_MIDDLE), it.rng.randint(8, 30), int(signal.SIGKILL)]
        )
    }


async def _wait(_: Stage) -> None:
    """The processes strike themselves."""


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
