"""Capacity: how many more jobs an account may have at its vendor.

Two limits apply: jobs in flight (`max_in_flight`) and submissions a second (`rate_limit`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, RowLock, bulk_update, insert, one_of
from orchestrator.database.statements import Statement
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
    free = FreeSlots()
    rows = _STATES(tx, {"accounts": list(limits)})
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
    ((count,),) = _IN_FLIGHT(tx, {"account": account})
    return int(count)


def token_buckets(tx: Tx, rates: Mapping[str, float], now: datetime) -> dict[str, TokenBucket]:
    """Return the token buckets of accounts, refilled.

    Call `free_slots` first: it locks their rows.
    """
    stored = {
        account: TokenBucket(rates[account], math.inf if tokens is None else tokens, at or now)
        for account, tokens, at in _TOKENS(tx, sorted(rates))
    }
    return {account: bucket.refilled(now) for account, bucket in stored.items()}


def save_buckets(tx: Tx, buckets: Mapping[str, TokenBucket]) -> None:
    """Store the token buckets of accounts."""
    rows = [
        {"was_account": account, "tokens": bucket.tokens, "tokens_at": bucket.at}
        for account, bucket in buckets.items()
    ]
    _SAVE_TOKENS(tx, rows)


def save_served(tx: Tx, before: Mapping[str, str], served: Mapping[str, str]) -> None:
    """Store the fairness keys that accounts served last, where they are others than `before`.

    `free_slots` has locked the rows.
    """
    changed = [account for account, key in served.items() if key != before[account]]
    _SAVE_SERVED(tx, [{"was_account": one, "served_key": served[one]} for one in changed])


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


# Built once: building a statement costs more than running it.
_HELD = ("held_since", "look_at", "probing")
#: One statement for any number, since its order is that of the locks.
_STATES = Statement(
    sa.select(
        *(account_state.c[name] for name in ("account", "paused_until", *_HELD, "served_key"))
    )
    .where(account_state.c.account.in_(sa.bindparam("accounts", expanding=True)))
    .order_by(account_state.c.account)
    .with_for_update()
)
_IN_FLIGHT = Statement(
    sa.select(sa.func.count()).where(
        job.c.account == sa.bindparam("account"),
        job.c.state.in_([sa.literal_column(f"'{state}'") for state in IN_FLIGHT]),
        job.c.due_at.is_not(None),
    )
)
_TOKENS = BulkSelect(
    sa.select(*(account_state.c[name] for name in ("account", "tokens", "tokens_at"))).where(
        one_of(account_state.c.account)
    )
)
_SAVE_TOKENS = bulk_update(account_state, "tokens", "tokens_at", key=("account",))
_SAVE_SERVED = bulk_update(account_state, "served_key", key=("account",))
_LOCK = RowLock(account_state.c.account)
