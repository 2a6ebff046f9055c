"""Where a process can die on a job's way, over real sockets: what is left behind, and how it still ends well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import sqlalchemy as sa

from orchestrator import deliver, submit
from orchestrator.runtime import Runtime, order_of
from orchestrator.settings import Settings
from orchestrator.simulator import Faults, Subscriber, World
from orchestrator.tables import delivery
from tests.live import IMPATIENT, Json, Live, half_way, listening, live, order, service, serving, settings, until


@asynccontextmanager
async def lives(folder: Path, account: str, **changed: object) -> AsyncIterator[tuple[World, Subscriber, Settings]]:
    """A world that outlives the processes of one service, whose address and database stay the same."""
    sock = listening()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    async with World(render_seconds=0.1) as world, Subscriber() as subscriber:
        yield world, subscriber, settings(folder, world, url, {account: changed})


def again(given: Settings, world: World, subscriber: Subscriber) -> AbstractLive:
    """The next process of the same service."""
    return service(given, world, subscriber, listening(int(given.public_url.rpartition(":")[2])))
