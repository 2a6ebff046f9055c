"""Holds: an account that its vendor refuses submits nothing, and its jobs stay queued.

A hold begins when the vendor refuses a submission for its credentials or its balance. It ends when
a check shows that the credentials are accepted, or when the vendor accepts a job: where a check
cannot tell, one job at a time is submitted to find out (a probe). Looks are spaced by a backoff
that starts again only with an acceptance, so a check that proves nothing costs little.

The answer to a status query or a lookup shows what a check shows. A push shows nothing: the job may
have been accepted long before. What was sent before the hold began proves nothing about it.

Also pauses: an account that its vendor rate-limits again and again has one event, not one a pause.
Every function that takes `tx` is a unit of work; those that change an account have locked its row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, TypedDict

import sqlalchemy as sa
import structlog

from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.database.tables.rows import AccountStateRow, fetch
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.clock import Rng, after, backoff, jittered
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import EventType, HoldReason, JobState, Source
from orchestrator.schemas.base import Json, rfc3339_or_none
from orchestrator.schemas.jobs import JobColumns, JobHead, job_json

log = structlog.get_logger()

#: Seconds until the first look at a hold, and between later ones at most.
FIRST_LOOK, LAST_LOOK = 5.0, 600.0
#: Seconds after the end of a pause without another one after which the account has recovered.
CALM = 60.0
#: Characters of the vendor's words that are kept.
_WORDS = 300
PAUSED = "paused"
_CALM_NOW = "the vendor has not limited submissions for a while"
_TABLE = account_state.c
_BEGUN = {
    HoldReason.UNAUTHORIZED: EventType.ACCOUNT_UNAUTHORIZED,
    HoldReason.EXHAUSTED: EventType.ACCOUNT_EXHAUSTED,
}


class HoldColumns(TypedDict):
    """The columns of `account_state` about its hold."""

    account: str
    held_reason: str | None
    held_since: datetime | None
    held_message: str | None
    look_at: datetime | None
    looks: int | None
    probing: bool | None


class Refusal(NamedTuple):
    """Why a vendor refuses an account, in its own words. `probe`: it was asked on purpose."""

    reason: HoldReason
    message: str
    probe: bool


class Look(NamedTuple):
    """The result of an account check: `authorized` is None where it does not show."""

    reachable: bool
    authorized: bool | None
    message: str
    sent_at: datetime


def refused(tx: Tx, ids: Ids, rng: Rng, account: str, refusal: Refusal, now: datetime) -> None:
    """Begin a hold, or go on with it.

    Refusals of what was sent before the hold began change nothing.
    """
    row = _get(tx, account)
    begins = row["held_since"] is None
    if not (begins or refusal.probe):
        return
    looks = row["looks"] or 0
    values = _later(row, rng, now) | {
        "held_reason": refusal.reason,
        "held_message": refusal.message[:_WORDS],
        # A check shows no balance. Nor does it show why the vendor refuses what a check allowed.
        "probing": row["probing"] or refusal.reason is HoldReason.EXHAUSTED or looks > 0,
    }
    if begins:
        values["held_since"] = now
    _set(tx, account, values)
    if begins or row["held_reason"] != refusal.reason:
        log.warning("jobs are held", account=account, reason=refusal.reason, why=refusal.message)
        since = row["held_since"] or now
        fact = account_fact(account, refusal.reason, since, refusal.message[:_WORDS])
        publish(tx, ids, [NewEvent(_BEGUN[refusal.reason], Source.SUBMIT, fact)], now)


def accepted(tx: Tx, ids: Ids, account: str, now: datetime, *, probe: bool) -> None:
    """The vendor has accepted a job. Only that of a probe was sent after the hold began."""
    row = _get(tx, account)
    if row["held_since"] is None:
        _set(tx, account, {"looks": None})
    elif probe:
        _end(tx, ids, row, "the vendor accepts jobs again", now, Source.SUBMIT)
        _set(tx, account, {"looks": None})


def probed(tx: Tx, rng: Rng, account: str, now: datetime) -> None:
    """A probe ended without an answer about the account: another job is submitted soon."""
    _set(tx, account, {"look_at": after(now, jittered(FIRST_LOOK, rng))}, held=True)


def begin_probe(tx: Tx, account: str, until: datetime) -> None:
    """No further job is submitted before the probe has ended, or its claim."""
    _set(tx, account, {"look_at": until}, held=True)


def checked(
    tx: Tx, ids: Ids, rng: Rng, account: str, look: Look, now: datetime, *, asked: bool
) -> None:
    """Note an account check. `asked`: an operator made it, so a failure changes no schedule."""
    row = _get(tx, account)
    if row["held_since"] is None or look.sent_at <= row["held_since"]:
        return
    if look.authorized and not row["probing"]:
        _end(tx, ids, row, look.message, now, Source.OPERATOR if asked else Source.CLOCK)
    elif look.authorized or (look.reachable and look.authorized is None):
        # The next job shows it.
        _set(tx, account, {"look_at": now, "probing": True})
    elif not asked:
        _set(tx, account, _later(row, rng, now))


def answered(
    tx: Tx, ids: Ids, account: str, sent_at: datetime, now: datetime, source: Source
) -> bool:
    """The vendor has answered a query that was sent then, so it accepts the credentials.

    Changes nothing about a hold that only a probe can judge, nor about its schedule. Return whether
    deliveries are due: the end of a hold has an event.
    """
    row = _get(tx, account)
    if row["held_since"] is None or sent_at <= row["held_since"] or row["probing"]:
        return False
    return _end(tx, ids, row, "the vendor answers status queries again", now, source)


def are_any(tx: Tx, accounts: Collection[str]) -> bool:
    """Return whether one of the accounts is held."""
    return tx.scalar(sa.select(_TABLE.account).where(_held(accounts)).limit(1)) is not None


def look_at_start(tx: Tx, accounts: Collection[str], now: datetime) -> None:
    """Make holds due for a look: a process that starts may have other credentials."""
    for row in _locked(tx, _held(accounts)):
        _set(tx, row["account"], {"look_at": now})


def _held(accounts: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(_TABLE.account.in_(accounts), _TABLE.held_since.is_not(None))


def take_due(
    tx: Tx, ids: Ids, accounts: Collection[str], now: datetime, seconds: float
) -> tuple[list[str], bool]:
    """Return which accounts are due for a check, and whether the pauses of others have ended.

    The former are not due again for so many seconds. The latter are announced.
    """
    checks, over = list[str](), list[Json]()
    for row in _locked(tx, _is_due(accounts, now)):
        account, look_at, until = row["account"], row["look_at"], row["paused_until"]
        if account in accounts and look_at and look_at <= now and not row["probing"]:
            _set(tx, account, {"look_at": after(now, seconds)})
            checks.append(account)
        if row["paused_since"] and until and until <= after(now, -CALM):
            _set(tx, account, {"paused_since": None, "paused_until": None, "crowded": 0})
            log.info("submissions are no longer paused", account=account)
            over.append(account_fact(account, PAUSED, row["paused_since"], _CALM_NOW))
    kind = EventType.ACCOUNT_RECOVERED
    publish(tx, ids, [NewEvent(kind, Source.CLOCK, fact) for fact in over], now)
    return checks, bool(over)


def is_due(tx: Tx, accounts: Collection[str], now: datetime) -> bool:
    """Return whether a hold of the accounts is due for a check, or a pause is over."""
    return tx.scalar(sa.select(_TABLE.account).where(_is_due(accounts, now)).limit(1)) is not None


def _is_due(accounts: Collection[str], now: datetime) -> sa.ColumnElement[bool]:
    held = sa.and_(_TABLE.held_since.is_not(None), _TABLE.look_at <= now)
    check = sa.and_(_TABLE.account.in_(accounts), held, _TABLE.probing.is_not(True))
    calm = _TABLE.paused_until <= after(now, -CALM)
    return sa.or_(check, sa.and_(_TABLE.paused_since.is_not(None), calm))


def of_jobs(tx: Tx, jobs: Iterable[JobHead]) -> dict[str, Json]:
    """Return the holds that keep jobs queued, as JSON by account.

    Reads nothing unless one of the jobs is queued.
    """
    accounts = {row["account"] for row in jobs if row["state"] == JobState.QUEUED}
    if not accounts:
        return {}
    rows = fetch(tx, HoldColumns, _HOLD.where(_held(accounts)))
    return {row["account"]: hold_json(row) for row in rows}


def shown(row: JobColumns, base: str, held: Mapping[str, Json]) -> Json:
    """Return a job as JSON, with the hold that keeps it queued."""
    is_queued = row["state"] == JobState.QUEUED
    return job_json(row, base, held.get(row["account"]) if is_queued else None)


def hold_json(row: HoldColumns) -> Json:
    """Return a hold as JSON, as a job and an account show it."""
    return {
        "reason": row["held_reason"],
        "since": rfc3339_or_none(row["held_since"]),
        "message": row["held_message"],
        "next_check_at": rfc3339_or_none(row["look_at"]),
    }


def account_fact(
    account: str, reason: str, since: datetime, message: str, until: datetime | None = None
) -> Json:
    """Return the data of an event about an account that is paused, held or recovered."""
    return {
        "object": "account",
        "name": account,
        "reason": reason,
        "since": rfc3339_or_none(since),
        "message": message,
        "paused_until": rfc3339_or_none(until),
    }


# -- pauses


def paused(tx: Tx, ids: Ids, account: str, until: datetime, message: str, now: datetime) -> None:
    """Publish the first pause of an account in a row."""
    log.warning("submissions are paused", account=account, until=until.isoformat())
    fact = account_fact(account, PAUSED, now, message[:_WORDS], until)
    publish(tx, ids, [NewEvent(EventType.ACCOUNT_PAUSED, Source.SUBMIT, fact)], now)


def _locked(tx: Tx, which: sa.ColumnElement[bool]) -> list[AccountStateRow]:
    """Lock accounts in the order of their names."""
    found = sa.select(account_state).where(which).order_by(_TABLE.account).with_for_update()
    return fetch(tx, AccountStateRow, found)


def _get(tx: Tx, account: str) -> HoldColumns:
    mine = _HOLD.where(_TABLE.account == account).with_for_update()
    return fetch(tx, HoldColumns, mine)[0]


def _set(tx: Tx, account: str, values: Mapping[str, object], *, held: bool = False) -> None:
    mine = [_TABLE.account == account]
    mine += [_TABLE.held_since.is_not(None)] if held else []
    tx.execute(sa.update(account_state).where(*mine).values(**values))


def _later(row: HoldColumns, rng: Rng, now: datetime) -> dict[str, object]:
    looks = row["looks"] or 0
    wait = jittered(backoff(FIRST_LOOK, looks, factor=2.0, most=LAST_LOOK), rng)
    return {"look_at": after(now, wait), "looks": looks + 1}


def _end(tx: Tx, ids: Ids, row: HoldColumns, message: str, now: datetime, source: Source) -> bool:
    cleared = ("held_reason", "held_since", "held_message", "look_at", "probing")
    _set(tx, row["account"], dict.fromkeys(cleared))
    log.warning("jobs are no longer held", account=row["account"], why=message)
    since = row["held_since"] or now
    fact = account_fact(row["account"], str(row["held_reason"]), since, message)
    return publish(tx, ids, [NewEvent(EventType.ACCOUNT_RECOVERED, source, fact)], now)


_HOLD = sa.select(*(_TABLE[name] for name in HoldColumns.__annotations__))
