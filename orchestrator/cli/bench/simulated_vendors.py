"""The simulated vendors as a process of a bench: `python -m ... RENDER_SECONDS FAULTS` (JSON)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from urllib.parse import urlsplit

from orchestrator.cli.bench.raw_http import end_with_bench
from orchestrator.simulator.control import Control
from orchestrator.simulator.faults import Faults
from orchestrator.simulator.vendors import SimulatedVendors


async def main(render_seconds: float, faults: Faults) -> None:
    """Serve until SIGTERM; print the port."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    end_with_bench()
    vendors = SimulatedVendors(1, render_seconds, faults)
    vendors.add_route(Control(vendors, None).mount())
    async with vendors:
        print(urlsplit(vendors.base_url).port, flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), Faults.from_json(json.loads(sys.argv[2]))))
