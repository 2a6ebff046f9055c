"""PostgreSQL restarted, crashed, and rid of all its sessions, again and again under load."""

from __future__ import annotations

import asyncio
from typing import Literal

from tests.chaos.run import Fault
from tests.chaos.stage import Stage

_ON = ("postgresql",)


def _restarted(mode: Literal["fast", "immediate"]) -> Fault:
    async def strike(it: Stage) -> None:
        assert it.server is not None
        while await it.pause(0.5, 2.0):
            await asyncio.to_thread(it.server.restart, mode)
            it.hits += 1

    return Fault(f"PostgreSQL restarted, {mode}", strike, on=_ON)


async def _terminated(it: Stage) -> None:
    assert it.server is not None
    while await it.pause(1.0, 1.0):
        it.hits += await asyncio.to_thread(it.server.terminate, it.database)


FAULTS = (
    _restarted("fast"),
    _restarted("immediate"),
    Fault("PostgreSQL ends all sessions, every second", _terminated, on=_ON),
)
