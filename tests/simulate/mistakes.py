"""The code of planted faults: parts of the product as somebody in a hurry might have written them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job, push
from orchestrator.engine import submit, submit_outcome
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.deliver_results import Attempted
from orchestrator.engine.deliver_schedule import ClaimedDelivery, QueuedEvent
from orchestrator.engine.poll import Poller, QueryResult, StatusQuery
from orchestrator.engine.receive import ReceivedPush, Receiver
from orchestrator.engine.worker import record_with_retry
from orchestrator.events import outbox
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.states import RANK, JobState, SubscriberState
from orchestrator.jobs import ledger, transition
from orchestrator.jobs.ledger import Ledger, Reschedule
from orchestrator.vendors.report import Report


@contextlib.contextmanager
def swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# -- claims and leases


def unfenced(self: Ledger, tx: Tx, postponed: Sequence[Reschedule]) -> None:
    for one in postponed:
        mine = sa.and_(job.c.id == one.job_id, job.c.state == JobState.SUBMITTING)
        tx.execute(
            sa.update(job)
            .where(mine)
            .values(state=JobState.QUEUED, version=job.c.version + 1, **one.values)
        )


def uncounted(_tx: Tx, limits: Mapping[str, int], _now: datetime) -> dict[str, int]:
    return dict(limits)


def unwritten(self: Ledger, tx: Tx, claimed: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    return [{**row, "state": JobState.SUBMITTING, "attempt": row["attempt"] + 1} for row in claimed]


def back_at_once(row: Any, vendor: Any, error: Any, now: datetime) -> submit_outcome.SubmitOutcome:
    return submit_outcome.SubmitOutcome(
        row, {"outcome": error.kind}, queue=Reschedule.of(row, {"due_at": now})
    )


def never(at: datetime, _seconds: float) -> datetime:
    return at.replace(year=9999)


@contextlib.contextmanager
def short_lease() -> Iterator[None]:
    with swapped(submit, "LEASE", 3.0), swapped(submit, "after", never):
        yield


# -- state


def may_fall(old: JobState, new: JobState) -> bool:
    return RANK[old] < 100 and old is not new


def may_change(old: JobState, new: JobState) -> bool:
    return RANK[new] >= RANK[old] and old is not new


@contextlib.contextmanager
def final_may_change() -> Iterator[None]:
    lower = {state: min(rank, 99) for state, rank in RANK.items()}
    with swapped(transition, "RANK", lower), swapped(transition, "may_move", may_change):
        yield


@contextlib.contextmanager
def expired_for_ever() -> Iterator[None]:
    with swapped(transition, "RANK", {**RANK, JobState.EXPIRED: 100}):
        yield


def believed(self: Report) -> bool:
    return True


_answered = Poller._answered


def by_position(self: Poller, question: StatusQuery, reports: Sequence[Report]) -> QueryResult:
    pairs = zip(question.rows, reports, strict=False)
    placed = [
        replace(said, vendor_task_id=row["vendor_task_id"], external_task_id=None)
        for row, said in pairs
    ]
    return _answered(self, question, placed)


# -- events and deliveries


@contextlib.contextmanager
def event_apart() -> Iterator[None]:
    """The event is written in a transaction of its own, right after the one that moved the job."""
    owed: list[tuple[Any, ...]] = []
    write, told = outbox.publish, Ledger.apply

    def later(tx: Tx, *args: Any) -> list[str]:
        owed.append(args)
        return []

    def apply(self: Ledger, tx: Tx, heard: Any) -> Any:
        while owed:
            write(tx, *owed.pop(0))
        return told(self, tx, heard)

    with swapped(ledger, "publish", later), swapped(Ledger, "apply", apply):
        yield


def to_the_active(new: outbox.NewEvent, candidates: Sequence[Any]) -> list[tuple[str, str]]:
    return [pair for pair in _recipients(new, candidates) if pair[1] == SubscriberState.ACTIVE]


_recipients = outbox._recipients


async def delivered_first(self: Deliverer, due: ClaimedDelivery) -> None:
    done = Attempted(
        due.row, due.subscriber, self.clock.now(), 0, ResponseClass.DELIVERED, status=200
    )
    await record_with_retry(self._save, done, self.clock, self.rng)
    self.scheduler.end(due)
    await self._attempt(due)


def never_again(now: datetime, seconds: float) -> None:
    return None


@contextlib.contextmanager
def new_name_each_time() -> Iterator[None]:
    request = Deliverer._request

    def renamed(self: Deliverer, due: ClaimedDelivery, now: datetime) -> Any:
        event: QueuedEvent = {**due.event, "id": self.ids("evt")}
        return request(self, replace(due, event=event), now)

    with swapped(Deliverer, "_request", renamed):
        yield


# -- pushes and callers


async def skipping(self: Receiver, taken: ReceivedPush) -> None:
    """A push that is kept already is not applied again, although keeping and applying are two transactions."""

    def keep(tx: Tx) -> bool:
        same = sa.and_(
            push.c.job_id == taken.row["job_id"], push.c.dedupe_key == taken.row["dedupe_key"]
        )
        known = tx.execute(sa.select(push.c.id).where(same)).first() is not None
        if not known:
            tx.execute(sa.insert(push), [{**taken.row, "id": self.ids("psh")}])
        return known

    if not await self.store.write(keep) and taken.report is not None:
        self.notifier.announce(await self.store.write(self.ledger.apply, [taken.report]))


@contextlib.contextmanager
def hasty_ok() -> Iterator[None]:
    take, begun = Receiver._accept, set[asyncio.Task[None]]()

    async def soon(self: Receiver, taken: ReceivedPush) -> None:
        begun.add(asyncio.create_task(take(self, taken)))

    with swapped(Receiver, "_accept", soon):
        yield


def unverified(self: Receiver, vendor: Any, headers: Any, body: bytes) -> bool:
    return False


@contextlib.contextmanager
def token_for_all() -> Iterator[None]:
    mint, unseal = Keys.mint, Keys.unseal

    def minted(self: Keys, account: str, callback: Callback, expires: datetime) -> str:
        return mint(self, "any", callback, expires)

    def unsealed(self: Keys, account: str, token: str, now: datetime) -> Callback:
        return unseal(self, "any", token, now)

    with swapped(Keys, "mint", minted), swapped(Keys, "unseal", unsealed):
        yield
