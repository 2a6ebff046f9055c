"""Push health: notices when an account's pushes stop arriving, and when they resume."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypedDict, cast

import sqlalchemy as sa
import structlog

from orchestrator.database.bulk import BulkSelect, one_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job
from orchestrator.database.tables.rows import JobRow
from orchestrator.events.outbox import NewEvent
from orchestrator.foundation.clock import after
from orchestrator.foundation.ids import made_at
from orchestrator.foundation.states import FINAL, EventType, JobState, Source
from orchestrator.jobs.capacity import in_flight, lock_accounts
from orchestrator.jobs.learning import Learned
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Vendor

#: Seconds without a job after which nothing is known about an account's pushes.
RECENT = 3600.0

log = structlog.get_logger()


class PushHealth(TypedDict):
    """The columns of `account_state` that say how an account's pushes are doing."""

    account: str
    silent: int
    degraded: bool
    pushes_missed: int
    last_push_at: datetime | None


def ask(tx: Tx, accounts: Iterable[str]) -> Callable[[], dict[str, PushHealth]]:
    """Return a function that returns the push health of accounts: see `statements.ask`."""
    answer, columns = _STATES.ask(tx, sorted(accounts)), PushHealth.__annotations__
    return lambda: {
        row[0]: cast(PushHealth, dict(zip(columns, row, strict=True))) for row in answer()
    }


def track(
    tx: Tx,
    states: Mapping[str, PushHealth],
    vendors: Mapping[str, Vendor],
    learned: Learned,
    reports: Sequence[ReportEvent],
    moves: Sequence[tuple[JobRow | None, JobState | None]],
    accounts: Collection[str],
    now: datetime,
) -> list[NewEvent]:
    """Count completions found by a status query alone; reset the count of accounts that pushed.

    An account is degraded once so many of them in a row are hardly chance, as often as its pushes
    are lost otherwise. In a row are those that ended after the last push: a query about many jobs
    finds lost ones together that pushed ones lay between.

    `moves` holds, for each report, the job afterwards and the state it moved to. `accounts` are
    those that the caller changes next, and are locked with the others. Returns the events to
    publish: an account was degraded, or it recovered.
    """
    pushed, missed = _arrivals(vendors, reports, moves, now)
    # Most pushes change nothing here: they must not queue for the lock of the account's row.
    changed = [
        account
        for account in sorted(pushed | missed.keys())
        if (state := states.get(account))
        and (account in missed or state["silent"] or state["degraded"])
    ]
    if changed:
        lock_accounts(tx, {*changed, *accounts})
    events: list[NewEvent] = []
    for account in changed:
        events += _count(tx, account, missed.get(account, ()), account in pushed, learned)
    for event in events:
        if event.type is EventType.ACCOUNT_PUSH_DEGRADED:
            _pull_polls_forward(tx, vendors[event.data["name"]], now)
    return events


def is_current(tx: Tx, account: str, now: datetime) -> bool:
    """Return whether jobs show how an account's pushes are doing: one in flight, or a recent one.

    Without any, what was noticed last is history. It goes on to bring status queries forward: only
    a push shows that pushes arrive again.
    """
    newest = tx.scalar(sa.select(sa.func.max(job.c.id)).where(job.c.account == account))
    is_recent = newest is not None and made_at(newest) > after(now, -RECENT)
    return is_recent or in_flight(tx, account) > 0


def _arrivals(
    vendors: Mapping[str, Vendor],
    reports: Sequence[ReportEvent],
    moves: Sequence[tuple[JobRow | None, JobState | None]],
    now: datetime,
) -> tuple[set[str], dict[str, list[datetime]]]:
    """Return the accounts that pushed, and when the jobs of each ended that came without one."""
    pushed: set[str] = set()
    missed: dict[str, list[datetime]] = {}
    for report, (row, moved) in zip(reports, moves, strict=True):
        if row is None:
            continue
        if report.source is Source.PUSH:
            pushed.add(row["account"])
        elif report.lease is not None:
            # That a vendor lost a task is our verdict, and says nothing about its pushes.
            continue
        elif report.source is Source.POLL and moved in FINAL:
            vendor = vendors.get(row["account"])
            if vendor and vendor.pushes:
                ended = _ended_at(row, report.report.updated_at, vendor, now)
                missed.setdefault(row["account"], []).append(ended)
    return pushed, missed


def _ended_at(row: JobRow, updated: datetime | None, vendor: Vendor, now: datetime) -> datetime:
    """Return when a job ended that was found final: by the vendor's clock, if that can be.

    Else an interval ago at the earliest: pushes that arrived since show that pushes arrive.
    """
    begun = row["submitted_at"] or row["created_at"]
    if updated is not None and begun <= updated <= now:
        return updated
    return max(begun, after(now, -vendor.account.poll.interval))


def _count(
    tx: Tx, account: str, missed: Sequence[datetime], pushed: bool, learned: Learned
) -> list[NewEvent]:
    row = tx.execute(_STATES.select.with_for_update(), {"values": [account]}).mappings().one()
    last = row["last_push_at"]
    in_a_row = row["silent"] + sum(last is None or ended > last for ended in missed)
    enough = learned.loss(account).before(in_a_row).misses_in_a_row
    silent = 0 if pushed else in_a_row
    degraded = silent >= enough or (row["degraded"] and not pushed)
    if missed or silent != row["silent"] or degraded != row["degraded"]:
        counts = {"silent": silent, "pushes_missed": row["pushes_missed"] + len(missed)}
        mine = account_state.c.account == account
        tx.execute(sa.update(account_state).where(mine).values(degraded=degraded, **counts))
    if degraded == row["degraded"]:
        return []
    log.warning("pushes have stopped" if degraded else "pushes have resumed", account=account)
    kind = EventType.ACCOUNT_PUSH_DEGRADED if degraded else EventType.ACCOUNT_PUSH_RECOVERED
    data = {"object": "account", "name": account, "completions_without_push": silent}
    return [NewEvent(kind, Source.CLOCK, data)]


def _pull_polls_forward(tx: Tx, vendor: Vendor, now: datetime) -> None:
    """Bring forward the status queries of jobs that wait for a push that will not come.

    Skips jobs that are claimed for one, and those that another unit holds: it may wait for the
    account, which is locked here.
    """
    soon = after(now, vendor.account.poll.interval)
    waiting = sa.and_(
        job.c.claimed_by.is_(None),
        job.c.account == vendor.account.name,
        job.c.state.in_((JobState.SUBMITTED, JobState.PROCESSING)),
        job.c.due_at > soon,
    )
    free = sa.select(job.c.id).where(waiting).with_for_update(skip_locked=True)
    tx.execute(sa.update(job).where(job.c.id.in_(free)).values(due_at=soon))


_STATES = BulkSelect(
    sa.select(*(account_state.c[name] for name in PushHealth.__annotations__)).where(
        one_of(account_state.c.account)
    )
)
