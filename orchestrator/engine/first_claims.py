"""First claims: a new delivery is claimed by the transaction that creates it.

While nothing is left to claim, a claim of its own would find that delivery alone, one transaction
later. So the push that creates it claims it too; under load deliveries are claimed many at a time,
by the stage. A process makes one claim at a time, so that lanes keep their limits. A transaction
that fails has claimed nothing; if it is not known whether it failed, its claims are released. Those
of a process that ends are taken back as any others.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.database.membership import Membership
from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.store import Store, Tx
from orchestrator.engine.deliver_scheduler import (
    ClaimedDelivery,
    DeliveryScheduler,
    Lane,
    QueuedEvent,
    release,
)
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import SubscriberState

#: Deliveries that one transaction claims; more are left to the stage.
MOST = 16
#: Seconds that the stage waits for a first claim that has not begun.
PATIENCE = 0.2
#: Seconds before each release of claims in doubt: the first commit may still be under way.
_RELEASES = (0.1, 15.0)


class FirstClaim:
    """What one unit of work claims of the deliveries that it creates."""

    def __init__(self, scheduler: DeliveryScheduler, membership: Membership, room: int) -> None:
        self._scheduler = scheduler
        self._membership = membership
        self._room = room
        #: The unit may run on another thread than the loop.
        self._guard = threading.Lock()
        self._begun = self._revoked = False
        self.claims: list[ClaimedDelivery] = []
        #: Claims of runs whose end is not known: the unit ran again, or its commit failed.
        self.doubtful: list[ClaimedDelivery] = []

    def reset(self) -> None:
        """Drop what was claimed: the unit of work runs again, or has failed."""
        with self._guard:
            self._begun = False
        self.doubtful += self.claims
        self.claims = []

    def revoke(self) -> bool:
        """Return whether nothing is claimed, nor will be: its transaction waits for others."""
        with self._guard:
            self._revoked = not self._begun
            return self._revoked

    def __call__(
        self,
        tx: Tx,
        rows: Sequence[dict[str, Any]],
        events: Sequence[Mapping[str, Any]],
        now: datetime,
    ) -> None:
        """Claim the rows of new deliveries before they are written, where nothing speaks against.

        What is ordered, has a rate limit, rests, is full or goes to the callback URL of a job is
        left to the stage.
        """
        due = Counter[str](row["subscriber_id"] for row in rows if row["due_at"] is not None)
        by = self._membership.number
        if by is None or due.total() > self._room:
            return
        with self._guard:
            if self._revoked:
                return
            self._begun = True
        lanes = self._scheduler.lanes(tx, [lane for lane, count in due.items() if count == 1], now)
        bodies = {event["id"]: event for event in events}
        for row in rows:
            lane = lanes.get(row["subscriber_id"])
            if row["due_at"] is None or lane is None or not _is_plain(lane):
                continue
            row.update(due_at=after(now, lane.lease), lease=1, claimed_by=by)
            self.claims.append(lane.claim(_queued(row), _event(bodies[row["event_id"]])))


class FirstClaims:
    """Used on one event loop."""

    def __init__(self, notifier: Notifier, store: Store, clock: Clock) -> None:
        self._notifier = notifier
        self._store = store
        self._clock = clock
        #: Held while deliveries are claimed, by a push or by the stage.
        self.claiming = asyncio.Lock()
        #: That of the stage, if this process has it.
        self.scheduler: DeliveryScheduler | None = None
        self._current: FirstClaim | None = None
        self._releasing = set[asyncio.Task[None]]()

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
        worker = self._notifier.workers.get("deliver")
        if worker is None or self.scheduler is None or not self.possible:
            yield None
            return
        # It is free, so this does not wait.
        async with self.claiming:
            first = FirstClaim(self.scheduler, self._store.membership, min(worker.room, MOST))
            self._current = first
            try:
                yield first
            except (Exception, asyncio.CancelledError):
                first.reset()
                self._settle(first)
                raise
            finally:
                self._current = None
            self._settle(first)
            self.scheduler.begin(first.claims)
            worker.begin(first.claims)

    @contextlib.asynccontextmanager
    async def by_stage(self) -> AsyncIterator[None]:
        """Claim in the block, when no first claim is under way.

        The transaction of a push may wait for a lock of another process: its first claim is revoked
        then, so that it holds up no other delivery.
        """
        if self.claiming.locked():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self.claiming.acquire()
                    self.claiming.release()
            if self._current is not None and self._current.revoke():
                yield
                return
        async with self.claiming:
            yield

    def _settle(self, first: FirstClaim) -> None:
        """Release what is in doubt."""
        if first.doubtful:
            task = asyncio.create_task(self._release(first.doubtful))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def _release(self, claims: Sequence[ClaimedDelivery]) -> None:
        """Make deliveries due that may have been committed: their event is not published again."""
        held = [(claim.row["id"], claim.row["lease"]) for claim in claims]
        for pause in _RELEASES:
            await self._clock.sleep(pause)
            with contextlib.suppress(Unavailable):
                await self._store.claim(release, held, self._clock.now())
                self._notifier.wake_here("deliver")


def _is_plain(lane: Lane) -> bool:
    """True if a lane has no rules that only the stage can keep, and a free slot."""
    to = lane.subscriber
    has_rules = to["ordered"] or to["rate_limit"] is not None or to["callback_origin"]
    is_active = to["state"] == SubscriberState.ACTIVE and not lane.resting
    return is_active and not has_rules and lane.free > 0


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
