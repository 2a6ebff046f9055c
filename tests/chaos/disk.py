"""A database that takes no writes for a while: no room on SQLite's disk, a standby instead of PostgreSQL's primary."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

from tests.chaos.run import Fault
from tests.chaos.stage import Stage
from tests.harness.processes import Replica

#: Seconds.
_LONG = 3.0
#: Bytes that the log of the process may still grow by: it is no file of the database's.
_TALK = 65_536


async def _full(it: Stage) -> None:
    before = it.load.refused
    while await it.pause(0.5, 1.0):
        await (_no_room(it) if it.server is None else _read_only(it))
    # What callers were told is the proof.
    it.hits += it.load.refused - before


async def _no_room(it: Stage) -> None:
    """Let no file of the process grow beyond what it has come to: every commit fails, for real."""
    replica = it.replicas[0]
    assert replica.child is not None
    pid = replica.child.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_most(it, replica), hard))
    await asyncio.sleep(_LONG)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    await it.pause(1.0, 2.0)


def _most(it: Stage, replica: Replica) -> int:
    wal = Path(it.database.partition(":///")[2] + "-wal").stat().st_size
    # A log in a full file would stop the process from talking; the database's own log is behind that by then.
    return max(wal, replica.log.stat().st_size + _TALK)


async def _read_only(it: Stage) -> None:
    assert it.server is not None
    await asyncio.to_thread(it.server.take_writes, it.database, allowed=False)
    await asyncio.sleep(_LONG)
    await asyncio.to_thread(it.server.take_writes, it.database, allowed=True)
    await it.pause(1.0, 2.0)


FAULTS = (Fault("no writes: full disk, read-only", _full),)
