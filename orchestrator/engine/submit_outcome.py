"""How a submission ends, as pure functions: what to do next is decided by the class of the error alone.

Not sent: again. Refused: for good, or later. Accepted: it moves. Cut off: come back when it can be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.foundation.clock import SUBMIT_SCHEDULE, Rng, after, grown, jittered, retry_delay
from orchestrator.foundation.errors import Blocked, Exchange, NotSent, Refused, TooLate
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.ledger import ApplyResult, Ledger, Reschedule
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Lookup, Receipt, Vendor
from orchestrator.vendors.report import Report

Row = Mapping[Any, Any]

#: Negative answers, spaced beyond the vendor's visibility lag, until a lost submission counts as not received.
NEGATIVES = 2
#: Tries with a credential that the vendor calls too young or too old; each is signed anew.
AUTH_TRIES = 3


@dataclass(frozen=True, slots=True)
class SubmitOutcome:
    """How one submission, or one question about a lost one, ended.

    Exactly one of `heard` (it moves), `queue` (back into the queue) and `later` (still in doubt) is set. `pause` asks
    for the account's lane to rest: that many seconds, or by our own schedule if 0.
    """

    row: Row
    note: Mapping[str, Any]
    heard: ReportEvent | None = None
    queue: Reschedule | None = None
    later: Reschedule | None = None
    pause: float | None = None


def accepted(row: Row, receipt: Receipt) -> SubmitOutcome:
    """The vendor took it."""
    told = receipt.report
    if told is None or told.state is None:
        told = Report(JobState.SUBMITTED, told.word if told else "")
    told = replace(told, vendor_task_id=receipt.vendor_task_id)
    note = {"outcome": "accepted", "vendor_task_id": receipt.vendor_task_id}
    return SubmitOutcome(row, note, heard=ReportEvent(row["id"], told, Source.SUBMIT))


def interrupted(
    row: Row, vendor: Vendor, error: Exchange, now: datetime, rng: Rng
) -> SubmitOutcome:
    """The exchange was not accepted."""
    match error:
        case TooLate():
            return SubmitOutcome(row, {"outcome": error.kind}, queue=_back(row, now))
        case Blocked():
            return failed(row, Refused(str(error), code="vendor_unavailable"))
        case NotSent():
            return _again(row, Refused(str(error), code="vendor_unavailable"), error.kind, now, rng)
        case Refused(duplicate=True) if row["attempt"] > 1:
            # An earlier attempt of ours arrived after all.
            return _lost(row, vendor, error, now)
        case Refused(crowded=True):
            # A limit of the whole account: the job keeps its turn, and this counts as no try of its own.
            return SubmitOutcome(
                row, _note(error), queue=_back(row, now), pause=error.retry_after or 0.0
            )
        case Refused(retryable=True):
            return _again(row, error, error.kind, now, rng)
        case Refused():
            return failed(row, error)
        case _:
            return _lost(row, vendor, error, now)


def failed(row: Row, error: Refused, source: Source = Source.SUBMIT) -> SubmitOutcome:
    """It will not be made. Fenced: while another claim is at work, our no is not the last word."""
    report = Report(JobState.FAILED, message=error.vendor_message, vendor_code=error.vendor_code)
    heard = ReportEvent(
        row["id"], report, source, code=error.code, words=str(error), lease=row["lease"]
    )
    return SubmitOutcome(row, _note(error), heard=heard)


def _again(row: Row, error: Refused, outcome: str, now: datetime, rng: Rng) -> SubmitOutcome:
    """Queue the job again, later each time; when the schedule is used up, it has failed."""
    tries = row["tries"] + 1
    wait = retry_delay(SUBMIT_SCHEDULE, tries, rng)
    if wait is None or (error.code == "vendor_auth" and tries >= AUTH_TRIES):
        return failed(row, error)
    back = _back(row, after(now, max(wait, error.retry_after or 0)), tries=tries)
    return SubmitOutcome(row, _note(error) | {"outcome": outcome}, queue=back)


def _lost(row: Row, vendor: Vendor, error: Exchange, now: datetime) -> SubmitOutcome:
    """The vendor may have it. Come back when it can be known."""
    poll = vendor.account.poll
    waits = {
        Lookup.BY_EXTERNAL_ID: poll.visibility_lag,
        Lookup.BY_KEY: 1.0,
        Lookup.NONE: poll.lost_after,
    }
    return _later(
        row,
        after(now, waits[vendor.lookup]),
        _note(error),
        misses=int(vendor.lookup is Lookup.NONE),
    )


# -- a lost submission, when its time has come


def cannot_query(row: Row, vendor: Vendor, now: datetime, lease: float) -> SubmitOutcome:
    """Nobody can be asked about it: wait for its push, then do as the account's policy says."""
    if vendor.lookup is Lookup.BY_KEY:
        return SubmitOutcome(row, {"outcome": "resend"}, queue=_back(row, now, misses=0))
    if not row["misses"]:
        # The process died while it submitted. Give a push the time to tell.
        wait = max(vendor.account.poll.lost_after - lease, 1.0)
        return _later(row, after(now, wait), {"outcome": "waiting_for_push"}, misses=1)
    if vendor.account.at_least_once:
        return SubmitOutcome(row, {"outcome": "resend"}, queue=_back(row, now, misses=0))
    words = "the submission's answer was lost and no push came: it may have been rendered; look there, then retry"
    return failed(row, Refused(words, code="submit_unknown"), Source.CLOCK)


def after_lookup(
    row: Row, vendor: Vendor, reports: Sequence[Report], now: datetime
) -> SubmitOutcome:
    """The vendor was asked for our external id. Found: adopt it. Not found twice, spaced: it never arrived."""
    if reports:
        found = replace(reports[0], state=reports[0].state or JobState.SUBMITTED)
        note = {"outcome": "found", "vendor_task_id": found.vendor_task_id}
        return SubmitOutcome(row, note, heard=ReportEvent(row["id"], found, Source.LOOKUP))
    misses = row["misses"] + 1
    if misses >= NEGATIVES:
        return SubmitOutcome(row, {"outcome": "not_found_resend"}, queue=_back(row, now, misses=0))
    return _later(
        row, after(now, vendor.account.poll.visibility_lag), {"outcome": "not_found"}, misses=misses
    )


def lookup_failed(
    row: Row, vendor: Vendor, error: Exchange, now: datetime, rng: Rng
) -> SubmitOutcome:
    """The question got no answer: ask again. Nothing was learned."""
    due = after(now, jittered(vendor.account.poll.visibility_lag, rng))
    return _later(row, due, _note(error), misses=row["misses"])


def _back(row: Row, due: datetime, **values: int) -> Reschedule:
    return Reschedule.of(row, {"due_at": due, **values})


def _later(row: Row, due: datetime, note: Mapping[str, Any], *, misses: int) -> SubmitOutcome:
    return SubmitOutcome(row, note, later=_back(row, due, misses=misses))


def _note(error: Exchange) -> dict[str, Any]:
    return {"outcome": error.kind, "reason": str(error)}


# -- recording


def record(
    tx: Tx, ledger: Ledger, rng: Rng, endings: Sequence[SubmitOutcome], now: datetime
) -> list[ApplyResult | None]:
    """Unit of work: write down how submissions ended, and what follows for their accounts."""
    ledger.note(
        tx, [(e.row["id"], "submit", {"attempt": e.row["attempt"], **e.note}) for e in endings], now
    )
    ledger.requeue(tx, [e.queue for e in endings if e.queue])
    ledger.postpone(tx, [e.later for e in endings if e.later])
    verdicts = iter(ledger.apply(tx, [e.heard for e in endings if e.heard]))
    # After the jobs, as a push does it: whoever holds one row may not wait for the other's.
    for account, asked in {
        e.row["account"]: e.pause for e in endings if e.pause is not None
    }.items():
        _pause_account(tx, account, asked, rng, now)
    if taken := {e.row["account"] for e in endings if e.note.get("outcome") == "accepted"}:
        crowded = sa.and_(account_state.c.account.in_(taken), account_state.c.crowded > 0)
        tx.execute(sa.update(account_state).where(crowded).values(crowded=0))
    return [next(verdicts) if e.heard else None for e in endings]


def _pause_account(tx: Tx, account: str, asked: float, rng: Rng, now: datetime) -> None:
    """Let an account rest: at least a second, longer each time (Kling's page on concurrency rules)."""
    mine = account_state.c.account == account
    crowded = tx.scalar(sa.select(account_state.c.crowded).where(mine)) or 0
    wait = max(asked, grown(1.0, crowded, factor=2.0, most=60.0))
    until = after(now, jittered(wait, rng))
    tx.execute(sa.update(account_state).where(mine).values(paused_until=until, crowded=crowded + 1))
