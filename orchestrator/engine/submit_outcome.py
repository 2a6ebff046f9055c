"""The outcome of a submission, as pure functions: the class of the error decides what is next.

Not sent: try again. Refused: fail, or try later. Accepted: the job moves. Cut off: come back when
the vendor's answer can be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import (
    SUBMIT_SCHEDULE,
    Rng,
    after,
    backoff,
    jittered,
    retry_delay,
)
from orchestrator.foundation.errors import Blocked, Exchange, NotSent, Refused, TooLate
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.capacity import lock_accounts
from orchestrator.jobs.ledger import ApplyResult, Ledger, Note, Reschedule
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Lookup, Receipt, Vendor
from orchestrator.vendors.report import Report

#: The outcome of a job that waits for room in this process.
POSTPONED = "postponed"
#: Lookups without a result, spaced beyond the vendor's visibility lag, after which a lost
#: submission counts as not received.
MAX_LOOKUPS = 2
#: Tries with a credential that the vendor calls too new or expired. Each is signed anew.
AUTH_TRIES = 3


@dataclass(frozen=True, slots=True)
class SubmitOutcome:
    """The outcome of one submission, or of one lookup of a lost one.

    Exactly one of these is set: `report` (the job moves), `queue` (back to the queue) or `later`
    (still in doubt). `pause` asks to pause the account for that many seconds, or by our own backoff
    if 0.
    """

    row: JobRow
    note: Mapping[str, Any]
    report: ReportEvent | None = None
    queue: Reschedule | None = None
    later: Reschedule | None = None
    pause: float | None = None


def accepted(row: JobRow, receipt: Receipt) -> SubmitOutcome:
    """The vendor accepted the job."""
    report = receipt.report
    if report is None or report.state is None:
        report = Report(JobState.SUBMITTED, report.word if report else "")
    report = report._replace(vendor_task_id=receipt.vendor_task_id)
    note = {"outcome": "accepted", "vendor_task_id": receipt.vendor_task_id}
    return SubmitOutcome(row, note, report=ReportEvent(row["id"], report, Source.SUBMIT))


def postponed(row: JobRow, due: datetime) -> SubmitOutcome:
    """The job was not sent: there is no room for its large images yet."""
    return SubmitOutcome(row, {"outcome": POSTPONED}, queue=_reschedule(row, due))


def interrupted(
    row: JobRow, vendor: Vendor, error: Exchange, now: datetime, rng: Rng
) -> SubmitOutcome:
    """The exchange ended without an acceptance."""
    match error:
        case TooLate():
            return SubmitOutcome(row, {"outcome": error.kind}, queue=_reschedule(row, now))
        case Blocked():
            return failed(row, Refused(str(error), code="vendor_unavailable"))
        case NotSent():
            refused = Refused(str(error), code="vendor_unavailable")
            return _retry(row, refused, error.kind, now, rng)
        case Refused(duplicate=True) if row["attempt"] > 1:
            # An earlier attempt of ours did arrive.
            return _in_doubt(row, vendor, error, now)
        case Refused(rate_limited=True):
            # A limit of the whole account: the job keeps its place, and the try does not count.
            pause = error.retry_after or 0.0
            return SubmitOutcome(row, _note(error), queue=_reschedule(row, now), pause=pause)
        case Refused(retryable=True):
            return _retry(row, error, error.kind, now, rng)
        case Refused():
            return failed(row, error)
        case _:
            return _in_doubt(row, vendor, error, now)


def failed(row: JobRow, error: Refused, source: Source = Source.SUBMIT) -> SubmitOutcome:
    """The job fails. Fenced by the lease: a later claim that is at work may still succeed."""
    report = Report(JobState.FAILED, message=error.vendor_message, vendor_code=error.vendor_code)
    event = ReportEvent(
        row["id"], report, source, code=error.code, message=str(error), lease=row["lease"]
    )
    return SubmitOutcome(row, _note(error), report=event)


def _retry(row: JobRow, error: Refused, outcome: str, now: datetime, rng: Rng) -> SubmitOutcome:
    """Queue the job again, with a longer delay each time. Fail it at the end of the schedule."""
    tries = row["tries"] + 1
    wait = retry_delay(SUBMIT_SCHEDULE, tries, rng)
    if wait is None or (error.code == "vendor_auth" and tries >= AUTH_TRIES):
        return failed(row, error)
    due = after(now, max(wait, error.retry_after or 0))
    note = _note(error) | {"outcome": outcome}
    return SubmitOutcome(row, note, queue=_reschedule(row, due, tries=tries))


def _in_doubt(row: JobRow, vendor: Vendor, error: Exchange, now: datetime) -> SubmitOutcome:
    """The vendor may have the job. Ask again when that can be known."""
    poll = vendor.account.poll
    waits = {
        Lookup.BY_EXTERNAL_ID: poll.visibility_lag,
        Lookup.BY_KEY: 1.0,
        Lookup.NONE: poll.lost_after,
    }
    misses = int(vendor.lookup is Lookup.NONE)
    due = after(now, waits[vendor.lookup])
    return SubmitOutcome(row, _note(error), later=_reschedule(row, due, misses=misses))


# -- lookup of a lost submission


def cannot_query(row: JobRow, vendor: Vendor, now: datetime, lease: float) -> SubmitOutcome:
    """The vendor has no lookup: wait for a push, then act by the account's policy."""
    resend = SubmitOutcome(row, {"outcome": "resend"}, queue=_reschedule(row, now, misses=0))
    if vendor.lookup is Lookup.BY_KEY:
        return resend
    if row["misses"] <= 0:
        # The process died while it was submitting. Give a push time to arrive.
        passed = lease if row["misses"] == 0 else 0.0
        due = after(now, max(vendor.account.poll.lost_after - passed, 1.0))
        later = _reschedule(row, due, misses=1)
        return SubmitOutcome(row, {"outcome": "waiting_for_push"}, later=later)
    if vendor.account.at_least_once:
        return resend
    message = (
        "the submission's answer was lost and no push came: it may have been rendered; "
        "look there, then retry"
    )
    return failed(row, Refused(message, code="submit_unknown"), Source.CLOCK)


def after_lookup(
    row: JobRow, vendor: Vendor, reports: Sequence[Report], now: datetime
) -> SubmitOutcome:
    """The vendor answered a lookup by our external id.

    Found: adopt the task. Not found by `MAX_LOOKUPS` spaced lookups: it never arrived, so send
    again. After a claim was taken back it takes one more: the request may just have left. Tasks of
    another id, or several without one, are those of others: the vendor did not look for ours.
    """
    ours = [one for one in reports if one.external_task_id == row["external_task_id"]]
    if not ours and len(reports) == 1 and reports[0].external_task_id is None:
        ours = [reports[0]]
    if ours:
        task = ours[0]
        found = task._replace(state=task.state or JobState.SUBMITTED)
        note = {"outcome": "found", "vendor_task_id": found.vendor_task_id}
        return SubmitOutcome(row, note, report=ReportEvent(row["id"], found, Source.LOOKUP))
    if reports:
        due = after(now, vendor.account.poll.visibility_lag)
        later = _reschedule(row, due, misses=row["misses"])
        return SubmitOutcome(row, {"outcome": "others_found"}, later=later)
    misses = row["misses"] + 1
    if misses >= MAX_LOOKUPS:
        again = _reschedule(row, now, misses=0)
        return SubmitOutcome(row, {"outcome": "not_found_resend"}, queue=again)
    later = _reschedule(row, after(now, vendor.account.poll.visibility_lag), misses=misses)
    return SubmitOutcome(row, {"outcome": "not_found"}, later=later)


def lookup_failed(
    row: JobRow, vendor: Vendor, error: Exchange, now: datetime, rng: Rng
) -> SubmitOutcome:
    """The lookup got no answer: try it again."""
    due = after(now, jittered(vendor.account.poll.visibility_lag, rng))
    return SubmitOutcome(row, _note(error), later=_reschedule(row, due, misses=row["misses"]))


def _reschedule(row: JobRow, due: datetime, **values: int) -> Reschedule:
    return Reschedule.of(row, {"due_at": due, **values})


def _note(error: Exchange) -> dict[str, Any]:
    return {"outcome": error.kind, "reason": str(error)}


# -- recording


def record(
    tx: Tx, ledger: Ledger, rng: Rng, outcomes: Sequence[SubmitOutcome], now: datetime
) -> list[ApplyResult | None]:
    """Unit of work: record outcomes, and pause or resume their accounts."""
    notes = [
        Note(one.row["id"], "submit", {"attempt": one.row["attempt"], **one.note})
        for one in outcomes
    ]
    ledger.note(tx, notes, now)
    ledger.lock(tx, [one.row["id"] for one in outcomes])
    ledger.requeue(tx, [one.queue for one in outcomes if one.queue])
    ledger.postpone(tx, [one.later for one in outcomes if one.later])
    results = iter(ledger.apply(tx, [one.report for one in outcomes if one.report]))
    paused = {one.row["account"]: one.pause for one in outcomes if one.pause is not None}
    accepting = {one.row["account"] for one in outcomes if one.note.get("outcome") == "accepted"}
    resumed = _rate_limited(tx, accepting)
    lock_accounts(tx, {*paused, *resumed})
    for account, seconds in paused.items():
        _pause_account(tx, account, seconds, rng, now)
    if resumed:
        mine = account_state.c.account.in_(resumed)
        tx.execute(sa.update(account_state).where(mine).values(crowded=0))
    return [next(results) if one.report else None for one in outcomes]


def _rate_limited(tx: Tx, accounts: set[str]) -> list[str]:
    """Return those of the accounts whose vendor refused submissions lately."""
    limited = sa.and_(account_state.c.account.in_(accounts), account_state.c.crowded > 0)
    return list(tx.scalars(sa.select(account_state.c.account).where(limited))) if accounts else []


def _pause_account(tx: Tx, account: str, seconds: float, rng: Rng, now: datetime) -> None:
    """Pause submissions of an account: exponential backoff from 1 s to 60 s, at least `seconds`.

    Kling's page on concurrency rules asks for it.
    """
    mine = account_state.c.account == account
    refusals = tx.scalar(sa.select(account_state.c.crowded).where(mine)) or 0
    wait = max(seconds, backoff(1.0, refusals, factor=2.0, most=60.0))
    values = {"paused_until": after(now, jittered(wait, rng)), "crowded": refusals + 1}
    tx.execute(sa.update(account_state).where(mine).values(**values))
