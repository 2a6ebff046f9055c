"""Recovery: the claims of processes that have ended are taken back, and their work goes on at once.

The lease of a claim is the guarantee; this is the speed. See `database/postgres/session.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from orchestrator.database import queue
from orchestrator.database.membership import ALONE
from orchestrator.database.store import Store, Tx
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.clock import Clock

log = structlog.get_logger()


@dataclass(kw_only=True)
class Recovery:
    """The tick that takes back claims."""

    store: Store
    clock: Clock
    notifier: Notifier

    async def start(self) -> None:
        """Take back the claims of processes before this one. Call it before any work is claimed.

        On SQLite none of them lives: this process has the lock of the file.
        """
        if self.store.shared:
            await self.run()
        else:
            self._report(await self.store.write(queue.take_back, [ALONE], self.clock.now()))

    async def run(self) -> None:
        """Take back the claims of other processes that have ended."""
        if await self.store.read(self.store.has_lost):
            self._report(await self.store.write(self._take_back))

    def _take_back(self, tx: Tx) -> int:
        lost = self.store.expel(tx)
        return queue.take_back(tx, lost, self.clock.now()) if lost else 0

    def _report(self, taken: int) -> None:
        if taken:
            log.info("the work of a process that has ended goes on here", claims=taken)
            for stage in self.notifier.workers:
                self.notifier.wake(stage)
