"""Connections that are late, slow, reset, half closed, or lead nowhere: every second one. The others do not last."""

from __future__ import annotations

import asyncio

from tests.chaos.proxy import Proxy
from tests.chaos.run import Fault
from tests.chaos.stage import Stage
from tests.chaos.ways import WAYS

_BAD = tuple(way for way in WAYS if way not in ("straight", "brief"))
#: The others are well for a moment: one that is kept would carry everything from then on.
_MIXED = (*_BAD, *["brief"] * len(_BAD))


async def _strike(it: Stage, *proxies: Proxy) -> None:
    for proxy in proxies:
        proxy.ways = _MIXED
    await it.loaded.wait()
    # What is under way is treated no better for the load's end.
    await asyncio.sleep(3.0)
    for proxy in proxies:
        proxy.ways = ("straight",)
        it.hits += proxy.mistreated


async def _outward(it: Stage) -> None:
    await _strike(it, it.vendors, it.subscriber)


async def _inward(it: Stage) -> None:
    await _strike(it, it.front)


FAULTS = (
    Fault("network: us to vendors and subscriber", _outward),
    Fault("network: callers and vendors to us", _inward),
)
