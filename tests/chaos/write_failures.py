"""A database that refuses writes for a while: a full disk for SQLite, read-only for PostgreSQL."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

from tests.chaos.run import Fault
from tests.chaos.testbed import Testbed
from tests.harness.processes import Replica

#: Seconds.
_SECONDS = 3.0
#: Bytes by which the log of the process may still grow.
_LOG_ROOM = 65_536


async def _full(bed: Testbed) -> None:
    before = bed.load.refused
    while await bed.pause(0.5, 1.0):
        await (_no_room(bed) if bed.server is None else _read_only(bed))
    # Refused callers prove that the fault occurred.
    bed.hits += bed.load.refused - before


async def _no_room(bed: Testbed) -> None:
    """Limit file sizes of the process to the current ones (RLIMIT_FSIZE), so that commits fail."""
    replica = bed.replicas[0]
    assert replica.child is not None
    pid = replica.child.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_most(bed, replica), hard))
    await asyncio.sleep(_SECONDS)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    await bed.pause(1.0, 2.0)


def _most(bed: Testbed, replica: Replica) -> int:
    wal = Path(bed.database.partition(":///")[2] + "-wal").stat().st_size
    # The limit must exceed the size of the process's log, or logging would fail; the write-ahead
    # log has reached it by then.
    return max(wal, replica.log.stat().st_size + _LOG_ROOM)


async def _read_only(bed: Testbed) -> None:
    assert bed.server is not None
    await asyncio.to_thread(bed.server.allow_writes, bed.database, allowed=False)
    await asyncio.sleep(_SECONDS)
    await asyncio.to_thread(bed.server.allow_writes, bed.database, allowed=True)
    await bed.pause(1.0, 2.0)


FAULTS = (Fault("no writes: full disk, read-only", _full),)
