"""How many more jobs an account may have at its vendor: slots in flight, and a rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job
from orchestrator.foundation.states import IN_FLIGHT
from orchestrator.foundation.token_bucket import TokenBucket


def free_slots(tx: Tx, limits: Mapping[str, int], now: datetime) -> dict[str, int]:
    """Return how many more jobs each account may have in flight; paused and full accounts are left out.

    The account's row is locked first: a limit enforced by counting alone overshoots when two count at once.
    """
    rows = tx.execute(
        sa.select(account_state.c.account, account_state.c.paused_until)
        .where(account_state.c.account.in_(limits))
        .order_by(account_state.c.account)
        .with_for_update()
    )
    free: dict[str, int] = {}
    for account, paused_until in rows:
        if paused_until is None or paused_until <= now:
            room = limits[account] - in_flight(tx, account)
            if room > 0:
                free[account] = room
    return free


def in_flight(tx: Tx, account: str) -> int:
    """Return how many jobs hold a slot at the vendor."""
    held = sa.select(sa.func.count()).where(
        job.c.account == account, job.c.state.in_(IN_FLIGHT), job.c.due_at.is_not(None)
    )
    return tx.scalar(held) or 0


def allowances(tx: Tx, rates: Mapping[str, float], now: datetime) -> dict[str, TokenBucket]:
    """Return what the rates of accounts allow now. To be called after `free_slots`, which locked their rows."""
    columns = (account_state.c.account, account_state.c.tokens, account_state.c.tokens_at)
    rows = tx.execute(sa.select(*columns).where(account_state.c.account.in_(rates)))
    known = {
        account: TokenBucket(rates[account], math.inf if tokens is None else tokens, at or now)
        for account, tokens, at in rows
    }
    return {account: allowance.refilled(now) for account, allowance in known.items()}


def spend(tx: Tx, left: Mapping[str, TokenBucket]) -> None:
    """Record what is left of accounts' rates."""
    for account, one in left.items():
        mine = account_state.c.account == account
        tx.execute(sa.update(account_state).where(mine).values(tokens=one.tokens, tokens_at=one.at))


def prepare(tx: Tx, accounts: Sequence[str]) -> None:
    """Make sure every configured account has its row of state: its lock guards the account's limit."""
    if accounts:
        tx.execute(
            insert(tx.dialect.name, account_state).on_conflict_do_nothing(),
            [{"account": name} for name in accounts],
        )
