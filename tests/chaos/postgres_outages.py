"""PostgreSQL is restarted or crashed, or all its sessions end, repeatedly under load."""

from __future__ import annotations

import asyncio
from typing import Literal

from tests.chaos.run import Fault
from tests.chaos.testbed import Testbed

_ON = ("postgresql",)


def _restarted(mode: Literal["fast", "immediate"]) -> Fault:
    async def strike(bed: Testbed) -> None:
        assert bed.server is not None
        while await bed.pause(0.5, 2.0):
            await asyncio.to_thread(bed.server.restart, mode)
            bed.hits += 1

    return Fault(f"PostgreSQL restarted, {mode}", strike, on=_ON)


async def _terminated(bed: Testbed) -> None:
    assert bed.server is not None
    while await bed.pause(1.0, 1.0):
        bed.hits += await asyncio.to_thread(bed.server.terminate, bed.database)


FAULTS = (
    _restarted("fast"),
    _restarted("immediate"),
    Fault("PostgreSQL ends all sessions, every second", _terminated, on=_ON),
)
