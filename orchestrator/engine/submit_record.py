"""Records the outcomes of submissions, and what they show about their accounts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, one_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.engine.submit_outcome import SubmitOutcome
from orchestrator.foundation.clock import Rng, after, backoff, jittered
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import Source
from orchestrator.jobs import holds
from orchestrator.jobs.capacity import lock_accounts
from orchestrator.jobs.ledger import ApplyResult, Ledger, Note


def record(
    tx: Tx, ledger: Ledger, ids: Ids, rng: Rng, outcomes: Sequence[SubmitOutcome], now: datetime
) -> list[ApplyResult | None]:
    """Unit of work: record outcomes, and pause, hold or resume their accounts."""
    notes = [
        Note(one.row["id"], "submit", {"attempt": one.row["attempt"], **one.note})
        for one in outcomes
    ]
    ledger.note(tx, notes, now)
    if any(one.queue or one.later for one in outcomes):
        # Else reports alone lock them.
        ledger.lock(tx, [one.row["id"] for one in outcomes])
    ledger.requeue(tx, [one.queue for one in outcomes if one.queue])
    ledger.postpone(tx, [one.later for one in outcomes if one.later])
    results = iter(ledger.apply(tx, [one.report for one in outcomes if one.report]))
    owed = _record_accounts(tx, ids, rng, outcomes, now)
    applied = [next(results) if one.report else None for one in outcomes]
    return [one._replace(owed=one.owed or owed) if one else None for one in applied]


def _record_accounts(
    tx: Tx, ids: Ids, rng: Rng, outcomes: Sequence[SubmitOutcome], now: datetime
) -> bool:
    """Record what outcomes show about their accounts: most show nothing new.

    Return whether deliveries are due because a hold has ended.
    """
    accepting = {one.row["account"]: False for one in outcomes if _is_accepted(one)}
    accepting |= {one.row["account"]: True for one in outcomes if one.probe and _is_accepted(one)}
    answered = {one.row["account"]: one.sent_at for one in outcomes if one.sent_at}
    lately = _refused_lately(tx, {*accepting, *answered})
    resumed = {account: looks for account, looks in lately.items() if account in accepting}
    paused = {one.row["account"]: one for one in outcomes if one.pause is not None}
    troubled = [one for one in outcomes if one.refusal or one.probe]
    lock_accounts(tx, {*lately, *paused, *(one.row["account"] for one in troubled)})
    for one in paused.values():
        _pause_account(tx, ids, one, rng, now)
    for one in troubled:
        if one.refusal is not None:
            holds.refused(tx, ids, rng, one.row["account"], one.refusal, now)
        elif not _is_accepted(one):
            holds.probed(tx, rng, one.row["account"], now)
    if resumed:
        mine = account_state.c.account.in_(resumed)
        tx.execute(sa.update(account_state).where(mine).values(crowded=0))
    for account in sorted(account for account, looks in resumed.items() if looks):
        holds.accepted(tx, ids, account, now, probe=accepting[account])
    ended = [
        holds.answered(tx, ids, account, answered[account], now, Source.LOOKUP)
        for account in sorted(lately.keys() & answered)
    ]
    return any(ended)


def _is_accepted(one: SubmitOutcome) -> bool:
    return one.note.get("outcome") == "accepted"


def _refused_lately(tx: Tx, accounts: Collection[str]) -> dict[str, int | None]:
    """Return those of the accounts whose vendor refused jobs lately, and the looks at a hold."""
    return dict(_REFUSED_LATELY(tx, sorted(accounts)))


def _pause_account(tx: Tx, ids: Ids, one: SubmitOutcome, rng: Rng, now: datetime) -> None:
    """Pause submissions of an account: exponential backoff from 1 s to 60 s, at least `pause`.

    Kling's page on concurrency rules asks for it.
    """
    table, account = account_state.c, one.row["account"]
    known = sa.select(table.crowded, table.paused_since).where(table.account == account)
    refusals, since = tx.execute(known).one()
    wait = max(one.pause or 0.0, backoff(1.0, refusals, factor=2.0, most=60.0))
    until = after(now, jittered(wait, rng))
    values = {"paused_until": until, "crowded": refusals + 1, "paused_since": since or now}
    tx.execute(sa.update(account_state).where(table.account == account).values(**values))
    if since is None:
        holds.paused(tx, ids, account, until, str(one.note.get("reason", "")), now)


_REFUSED_LATELY = BulkSelect(
    sa.select(account_state.c.account, account_state.c.looks).where(
        one_of(account_state.c.account),
        sa.or_(account_state.c.crowded > 0, account_state.c.looks > 0),
    )
)
