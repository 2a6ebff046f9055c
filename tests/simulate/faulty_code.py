"""Faulty replacements for parts of the product, used by `planted_faults`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database import job_turns, queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job, push
from orchestrator.engine import claims, deliver, poll, submit, submit_outcome
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.deliver_results import Attempted
from orchestrator.engine.deliver_scheduler import ClaimedDelivery, QueuedEvent
from orchestrator.engine.poll import Poller, QueryResult, StatusQuery
from orchestrator.engine.receive import ReceivedPush, Receiver
from orchestrator.engine.recovery import Recovery
from orchestrator.engine.worker import record_with_retry
from orchestrator.events import outbox
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.states import RANK, JobState, SubscriberState
from orchestrator.jobs import ledger, transition
from orchestrator.jobs.capacity import FreeSlots, in_flight
from orchestrator.jobs.creation import create_jobs
from orchestrator.jobs.ledger import Ledger, Reschedule
from orchestrator.vendors.report import Report


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# -- claims and leases


def requeue_without_lease_check(self: Ledger, tx: Tx, postponed: Sequence[Reschedule]) -> None:
    for reschedule in postponed:
        same_claim = sa.and_(job.c.id == reschedule.job_id, job.c.state == JobState.SUBMITTING)
        tx.execute(
            sa.update(job)
            .where(same_claim)
            .values(state=JobState.QUEUED, version=job.c.version + 1, **reschedule.values)
        )


def ignore_account_limit(tx: Tx, limits: Mapping[str, int], _now: datetime) -> FreeSlots:
    return _free(tx, limits)


def ignore_holds(tx: Tx, limits: Mapping[str, int], _now: datetime) -> FreeSlots:
    left = {name: limit - in_flight(tx, name) for name, limit in limits.items()}
    return _free(tx, {name: slots for name, slots in left.items() if slots > 0})


def _free(tx: Tx, slots: Mapping[str, int]) -> FreeSlots:
    free = FreeSlots()
    free.update(slots)
    served = sa.select(account_state.c.account, account_state.c.served_key)
    free.served = {account: key or "" for account, key in tx.execute(served)}
    return free


def claim_without_write(
    self: Ledger, tx: Tx, claimed: Sequence[Mapping[Any, Any]]
) -> list[dict[str, Any]]:
    return [{**row, "state": JobState.SUBMITTING, "attempt": row["attempt"] + 1} for row in claimed]


def requeue_at_once(
    row: Any, vendor: Any, error: Any, now: datetime
) -> submit_outcome.SubmitOutcome:
    return submit_outcome.SubmitOutcome(
        row, {"outcome": error.kind}, queue=Reschedule.of(row, {"due_at": now})
    )


def in_year_9999(at: datetime, _seconds: float) -> datetime:
    return at.replace(year=9999)


@contextlib.contextmanager
def short_lease() -> Iterator[None]:
    with patched(submit, "LEASE_MARGIN", -57.0), patched(claims, "after", in_year_9999):
        yield


async def start_without_recovery(self: Recovery) -> None:
    return


@contextlib.contextmanager
def send_always() -> Iterator[None]:
    """Send whatever has become of the claim, as after a freeze."""
    with contextlib.ExitStack() as patches:
        for stage in (submit, poll, deliver):
            patches.enter_context(patched(stage, "permit", lambda *_: lambda: True))
        yield


def start_at_once(tx: Tx, drafts: Sequence[dict[str, Any]]) -> Sequence[Any]:
    return create_jobs(tx, [draft | {"due_at": draft["created_at"]} for draft in drafts])


def oldest_first(tx: Tx, now: datetime) -> Callable[[], dict[str, bool]]:
    answer = _ask_accounts(tx, now)
    return lambda: dict.fromkeys(answer(), False)


_ask_accounts = job_turns.ask_accounts


# -- state


def rank_may_fall(old: JobState, new: JobState) -> bool:
    return RANK[old] < 100 and old is not new


def final_may_move(old: JobState, new: JobState) -> bool:
    return RANK[new] >= RANK[old] and old is not new


@contextlib.contextmanager
def final_state_may_change() -> Iterator[None]:
    lower = {state: min(rank, 99) for state, rank in RANK.items()}
    with patched(transition, "RANK", lower), patched(transition, "may_move", final_may_move):
        yield


@contextlib.contextmanager
def expired_is_final() -> Iterator[None]:
    with patched(transition, "RANK", {**RANK, JobState.EXPIRED: 100}):
        yield


def always_has_output(self: Report) -> bool:
    return True


_answered = Poller._answered


def match_by_position(
    self: Poller, query: StatusQuery, reports: Sequence[Report], asked_at: datetime
) -> QueryResult:
    pairs = zip(query.rows, reports, strict=False)
    placed = [
        report._replace(vendor_task_id=row["vendor_task_id"], external_task_id=None)
        for row, report in pairs
    ]
    return _answered(self, query, placed, asked_at)


# -- events and deliveries


@contextlib.contextmanager
def publish_in_next_transaction() -> Iterator[None]:
    """Publish the event in the transaction after the one that changed the job."""
    owed: list[tuple[Any, ...]] = []
    write, types = outbox.publish, Ledger.apply

    def later(tx: Tx, *args: Any) -> list[str]:
        owed.append(args)
        return []

    def apply(self: Ledger, tx: Tx, *args: Any) -> Any:
        while owed:
            write(tx, *owed.pop(0))
        return types(self, tx, *args)

    with patched(ledger, "publish", later), patched(Ledger, "apply", apply):
        yield


def only_active(new: outbox.NewEvent, *seen: Any) -> list[tuple[str, str]]:
    return [pair for pair in _recipients(new, *seen) if pair[1] == SubscriberState.ACTIVE]


_recipients = outbox._recipients


def in_any_order(
    tx: Tx, lane: str, share: int, now: datetime, _until: datetime, **_: Any
) -> Sequence[str]:
    due = {"lane": lane, "now": now, "share": share}
    return [str(one) for (one,) in queue._DUE_DELIVERIES(tx, due)]


async def record_before_sending(self: Deliverer, due: ClaimedDelivery) -> None:
    done = Attempted(
        due.row,
        due.subscriber,
        self.clock.now(),
        0,
        ResponseClass.DELIVERED,
        due.policy,
        status=200,
    )
    await record_with_retry(self._save, done, self.clock, self.rng)
    self.scheduler.end(due)
    await self._attempt(due)


def never_due(now: datetime, seconds: float) -> None:
    return None


@contextlib.contextmanager
def new_webhook_id_per_attempt() -> Iterator[None]:
    request = Deliverer._request

    def renamed(self: Deliverer, due: ClaimedDelivery, *others: Any) -> Any:
        event: QueuedEvent = {**due.event, "id": self.ids("evt")}
        return request(self, replace(due, event=event), *others)

    with patched(Deliverer, "_request", renamed):
        yield


# -- pushes and callers


async def skip_known_push(self: Receiver, accepted: ReceivedPush) -> None:
    """Skip a push that is stored already, although storing and applying are two transactions."""

    def keep(tx: Tx) -> bool:
        same = sa.and_(
            push.c.job_id == accepted.row["job_id"], push.c.dedupe_key == accepted.row["dedupe_key"]
        )
        known = tx.execute(sa.select(push.c.id).where(same)).first() is not None
        if not known:
            tx.execute(sa.insert(push), [{**accepted.row, "id": self.ids("psh")}])
        return known

    if not await self.store.write(keep) and accepted.report is not None:
        self.notifier.announce(await self.store.write(self.ledger.apply, [accepted.report]))


@contextlib.contextmanager
def acknowledge_early() -> Iterator[None]:
    accept, tasks = Receiver._accept, set[asyncio.Task[None]]()

    async def soon(self: Receiver, accepted: ReceivedPush) -> None:
        tasks.add(asyncio.create_task(accept(self, accepted)))

    with patched(Receiver, "_accept", soon):
        yield


def skip_verification(vendor: Any, headers: Any, body: bytes) -> bool:
    return False


@contextlib.contextmanager
def token_for_any_account() -> Iterator[None]:
    mint, unseal = Keys.mint, Keys.unseal

    def minted(self: Keys, account: str, callback: Callback, expires: datetime) -> str:
        return mint(self, "any", callback, expires)

    def unsealed(self: Keys, account: str, token: str, now: datetime) -> Callback:
        return unseal(self, "any", token, now)

    with patched(Keys, "mint", minted), patched(Keys, "unseal", unsealed):
        yield
