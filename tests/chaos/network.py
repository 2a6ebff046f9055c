"""Connections that are delayed, slow, reset, half-closed or blackholed.

Half of them; the rest are short.
"""

from __future__ import annotations

import asyncio

from tests.chaos.connection_modes import MODES
from tests.chaos.proxy import Proxy
from tests.chaos.run import Fault
from tests.chaos.testbed import Testbed

_BAD = tuple(mode for mode in MODES if mode not in ("forward", "reset later"))
#: Undisturbed connections are reset after a moment: a kept connection would carry all later
#: traffic.
_MIXED = (*_BAD, *["reset later"] * len(_BAD))


async def _disturb(bed: Testbed, *proxies: Proxy) -> None:
    for proxy in proxies:
        proxy.modes = _MIXED
    await bed.loaded.wait()
    # Requests in progress at the end of the load are disturbed as well.
    await asyncio.sleep(3.0)
    for proxy in proxies:
        proxy.modes = ("forward",)
        bed.hits += proxy.disturbed


async def _outward(bed: Testbed) -> None:
    await _disturb(bed, bed.vendors, bed.subscriber)


async def _inward(bed: Testbed) -> None:
    await _disturb(bed, bed.front)


FAULTS = (
    Fault("network: us to vendors and subscriber", _outward),
    Fault("network: callers and vendors to us", _inward),
)
