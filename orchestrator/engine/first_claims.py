"""First claims: a new delivery is claimed by the transaction that creates it.

While nothing is left to claim, a claim of its own would find that delivery alone, one transaction
later. So the push that creates it claims it too; under load deliveries are claimed many at a time,
by the stage. Of two claims of a process one waits, so that lanes keep their limits. A transaction
that fails has claimed nothing, and what a process claimed that ends is taken back as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.store import Store, Tx
from orchestrator.engine.deliver_scheduler import ClaimedDelivery, DeliveryScheduler, QueuedEvent
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import SubscriberState

#: Deliveries that one transaction claims; more are left to the stage.
MOST = 16


class FirstClaim:
    """What one unit of work claims of the deliveries that it creates, for the process `by`."""

    def __init__(self, scheduler: DeliveryScheduler, by: int, room: int) -> None:
        self._scheduler = scheduler
        self._by = by
        self._room = room
        self.reset()

    def reset(self) -> None:
        """Forget what was claimed: the unit of work runs again."""
        self.claims: list[ClaimedDelivery] = []
        #: True if all that became due is claimed.
        self.is_complete = False

    def __call__(
        self,
        tx: Tx,
        rows: Sequence[dict[str, Any]],
        events: Sequence[Mapping[str, Any]],
        now: datetime,
    ) -> None:
        """Claim the rows of new deliveries before they are written, where nothing speaks against.

        What is ordered, rests, is full or goes to the callback URL of a job is left to the stage.
        """
        due = Counter[str](row["subscriber_id"] for row in rows if row["due_at"] is not None)
        if due.total() > self._room:
            return
        lanes = self._scheduler.lanes(tx, [lane for lane, count in due.items() if count == 1], now)
        bodies = {event["id"]: event for event in events}
        for row in rows:
            lane = lanes.get(row["subscriber_id"])
            if row["due_at"] is None or lane is None or lane.free < 1 or lane.resting:
                continue
            to = lane.subscriber
            is_plain = to["state"] == SubscriberState.ACTIVE and not to["ordered"]
            if to["callback_origin"] or not is_plain or not self._scheduler.within_rate(to, 1, now):
                continue
            row.update(due_at=after(now, lane.lease), lease=1, claimed_by=self._by)
            self.claims.append(lane.claim(_queued(row), _event(bodies[row["event_id"]])))
        self.is_complete = len(self.claims) == due.total()


class FirstClaims:
    """Used on one event loop."""

    def __init__(self, notifier: Notifier, store: Store) -> None:
        self._notifier = notifier
        self._store = store
        #: Held by whoever claims deliveries.
        self.claiming = asyncio.Lock()
        #: That of the stage, if this process has it.
        self.scheduler: DeliveryScheduler | None = None

    @property
    def possible(self) -> bool:
        """True if this process delivers, and its last look for deliveries left none."""
        worker = self._notifier.workers.get("deliver")
        return worker is not None and worker.is_idle and not self.claiming.locked()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[FirstClaim | None]:
        """Yield a claim for a unit of work that commits in the block; None if it may make none.

        What it claimed is worked on from the end of the block on.
        """
        worker, by = self._notifier.workers.get("deliver"), self._store.membership.number
        if worker is None or by is None or self.scheduler is None or not self.possible:
            yield None
            return
        # It is free, so this does not wait.
        async with self.claiming:
            first = FirstClaim(self.scheduler, by, min(worker.room, MOST))
            yield first
            self.scheduler.begin(first.claims)
            worker.begin(first.claims)


def _queued(row: Mapping[str, Any]) -> QueuedDelivery:
    return {
        "id": row["id"],
        "event_id": row["event_id"],
        "subscriber_id": row["subscriber_id"],
        "forced_at": None,
        "due_at": row["due_at"],
        "lease": row["lease"],
        "claimed_by": row["claimed_by"],
        "tries": 0,
    }


def _event(row: Mapping[str, Any]) -> QueuedEvent:
    return {
        "id": row["id"],
        "job_id": row["job_id"],
        "type": row["type"],
        "body": row["body"],
        "callback_url": None,
        "callback_key": None,
        "resting_until": None,
    }
