"""Capacity: how many more jobs an account may have at its vendor.

Two limits apply: jobs in flight (`max_in_flight`) and submissions a second (`rate_limit`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.bulk import RowLock, insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job
from orchestrator.foundation.states import IN_FLIGHT
from orchestrator.foundation.token_bucket import TokenBucket


class FreeSlots(dict[str, int]):
    """How many more jobs each account may have in flight.

    `probing`: the held accounts of which one job is submitted, to see whether they still are.
    `served`: the fairness key of each account that was served last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probing: set[str] = set()
        self.served: dict[str, str] = {}


def free_slots(tx: Tx, limits: Mapping[str, int], now: datetime) -> FreeSlots:
    """Return how many more jobs each account may have in flight.

    Leaves out paused, held and full accounts.

    Locks the accounts' rows first: a limit enforced by counting alone overshoots when two processes
    count at the same time.
    """
    table = account_state.c
    held = (table.held_since, table.look_at, table.probing)
    rows = tx.execute(
        sa.select(table.account, table.paused_until, *held, table.served_key)
        .where(account_state.c.account.in_(limits))
        .order_by(account_state.c.account)
        .with_for_update()
    )
    free = FreeSlots()
    for account, paused_until, held_since, look_at, probing, served in rows:
        is_held = held_since is not None
        is_shut = is_held and not (probing and (look_at or now) <= now)
        if is_shut or (paused_until is not None and paused_until > now):
            continue
        slots = limits[account] - in_flight(tx, account)
        if slots > 0:
            free[account] = 1 if is_held else slots
            free.probing.update([account] if is_held else [])
            free.served[account] = served or ""
    return free


def in_flight(tx: Tx, account: str) -> int:
    """Return how many jobs hold a slot at the vendor."""
    held = sa.select(sa.func.count()).where(
        job.c.account == account, job.c.state.in_(IN_FLIGHT), job.c.due_at.is_not(None)
    )
    return tx.scalar(held) or 0


def token_buckets(tx: Tx, rates: Mapping[str, float], now: datetime) -> dict[str, TokenBucket]:
    """Return the token buckets of accounts, refilled.

    Call `free_slots` first: it locks their rows.
    """
    columns = (account_state.c.account, account_state.c.tokens, account_state.c.tokens_at)
    rows = tx.execute(sa.select(*columns).where(account_state.c.account.in_(rates)))
    stored = {
        account: TokenBucket(rates[account], math.inf if tokens is None else tokens, at or now)
        for account, tokens, at in rows
    }
    return {account: bucket.refilled(now) for account, bucket in stored.items()}


def save_buckets(tx: Tx, buckets: Mapping[str, TokenBucket]) -> None:
    """Store the token buckets of accounts."""
    for account, bucket in buckets.items():
        mine = account_state.c.account == account
        values = {"tokens": bucket.tokens, "tokens_at": bucket.at}
        tx.execute(sa.update(account_state).where(mine).values(**values))


def save_served(tx: Tx, before: Mapping[str, str], served: Mapping[str, str]) -> None:
    """Store the fairness keys that accounts served last, where they are others than `before`.

    `free_slots` has locked the rows.
    """
    for account, key in served.items():
        if key != before[account]:
            mine = account_state.c.account == account
            tx.execute(sa.update(account_state).where(mine).values(served_key=key))


def lock_accounts(tx: Tx, accounts: Collection[str]) -> None:
    """Lock the rows of accounts that a unit of work changes after it has locked its jobs.

    The order is fixed: jobs by id, accounts by name, deliveries by id, callback addresses by key,
    subscribers by id.
    """
    _LOCK(tx, accounts)


def ensure_accounts(tx: Tx, accounts: Sequence[str]) -> None:
    """Create the missing rows of state for configured accounts. A row's lock guards its limits."""
    if accounts:
        names = [{"account": name} for name in accounts]
        tx.execute(insert(tx.dialect.name, account_state).on_conflict_do_nothing(), names)


_LOCK = RowLock(account_state.c.account)
