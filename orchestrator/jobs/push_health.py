"""Noticing that an account's pushes have stopped: nobody else in this field tells you."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from orchestrator.database.bulk import Finder, among
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job
from orchestrator.events.outbox import NewEvent
from orchestrator.foundation import clock
from orchestrator.foundation.states import FINAL, EventType, JobState, Source
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Vendor

#: Completions in a row that no push told us of, until we say that the pushes have stopped.
SILENCE = 3

log = structlog.get_logger()
Row = Mapping[Any, Any]


def load_states(tx: Tx, accounts: Iterable[str]) -> dict[str, Row]:
    """Return what is known of accounts, by name."""
    rows = _STATES(tx, sorted(accounts))
    return {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in rows}


def track(
    tx: Tx,
    states: Mapping[str, Row],
    vendors: Mapping[str, Vendor],
    heard: Sequence[ReportEvent],
    after: Sequence[tuple[Row | None, bool]],
    now: datetime,
) -> list[NewEvent]:
    """Count the completions that only a question found, and the accounts that did push.

    `after` holds each job as it is after its report, and whether it moved. Returns what subscribers are to be told.
    """
    missed: Counter[str] = Counter()
    pushed: set[str] = set()
    for one, (row, moved) in zip(heard, after, strict=True):
        if row is None:
            continue
        if one.source is Source.PUSH:
            pushed.add(row["account"])
        elif one.source is Source.POLL and moved and row["state"] in FINAL:
            vendor = vendors.get(row["account"])
            missed[row["account"]] += 1 if vendor and vendor.pushes else 0
    accounts = sorted(pushed | {account for account, count in missed.items() if count})
    facts = [
        fact
        for account in accounts
        if account in states
        # Most pushes find nothing to change: they do not queue for the account's row.
        if missed[account] or states[account]["silent"] or states[account]["degraded"]
        for fact in _count(tx, account, missed[account], account in pushed)
    ]
    for fact in facts:
        if fact.type is EventType.ACCOUNT_PUSH_DEGRADED:
            _pull_polls_forward(tx, vendors[fact.data["name"]], now)
    return facts


def _count(tx: Tx, account: str, missed: int, pushed: bool) -> list[NewEvent]:
    row = tx.execute(_STATES.select.with_for_update(), {"among": [account]}).mappings().one()
    silent = 0 if pushed else row["silent"] + missed
    degraded = silent >= SILENCE or (row["degraded"] and not pushed)
    if missed or silent != row["silent"] or degraded != row["degraded"]:
        values = {
            "silent": silent,
            "degraded": degraded,
            "pushes_missed": row["pushes_missed"] + missed,
        }
        tx.execute(
            sa.update(account_state).where(account_state.c.account == account).values(**values)
        )
    if degraded == row["degraded"]:
        return []
    log.warning(
        "an account's pushes have stopped" if degraded else "an account's pushes are back",
        account=account,
    )
    kind = EventType.ACCOUNT_PUSH_DEGRADED if degraded else EventType.ACCOUNT_PUSH_RECOVERED
    return [
        NewEvent(
            kind,
            Source.CLOCK,
            {"object": "account", "name": account, "completions_without_push": silent},
        )
    ]


def _pull_polls_forward(tx: Tx, vendor: Vendor, now: datetime) -> None:
    """Bring forward the questions about jobs that are still waiting for a push that will not come."""
    soon = clock.after(now, vendor.account.poll.interval)
    waiting = sa.and_(
        job.c.account == vendor.account.name,
        job.c.state.in_((JobState.SUBMITTED, JobState.PROCESSING)),
        job.c.due_at > soon,
    )
    tx.execute(sa.update(job).where(waiting).values(due_at=soon))


_COLUMNS = ("account", "silent", "degraded", "pushes_missed")
_STATES = Finder(
    sa.select(*(account_state.c[name] for name in _COLUMNS)).where(among(account_state.c.account))
)
