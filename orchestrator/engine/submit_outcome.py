"""The outcome of a submission, as pure functions: the class of the error decides what is next.

Not sent: try again. Refused: fail, or try later. Accepted: the job moves. Cut off: come back when
the vendor's answer can be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import SUBMIT_SCHEDULE, Rng, after, jittered, retry_delay
from orchestrator.foundation.errors import Blocked, Exchange, NotSent, Refused, TooLate
from orchestrator.foundation.states import HoldReason, JobState, Source
from orchestrator.jobs.holds import Refusal
from orchestrator.jobs.ledger import Reschedule
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.contract import Lookup, Receipt, Vendor
from orchestrator.vendors.report import Report

#: The outcome of a job that waits for room in this process.
POSTPONED = "postponed"
#: The outcome of a job whose account is held.
HELD = "held"
#: Kling's code for a resource that the account has no right to: of other models it may have.
_OF_ONE_JOB = frozenset({1103})
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
    if 0. `refusal` asks to hold the account. `probe`: it was held when the job was claimed.
    `sent_at`: when a lookup left that the vendor has answered.
    """

    row: JobRow
    note: Mapping[str, Any]
    report: ReportEvent | None = None
    queue: Reschedule | None = None
    later: Reschedule | None = None
    pause: float | None = None
    refusal: Refusal | None = None
    probe: bool = False
    sent_at: datetime | None = None

    def of_probe(self, probe: bool) -> SubmitOutcome:
        """Return the outcome of a claim that was a probe, or was none."""
        return replace(self, probe=True) if probe else self


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
    row: JobRow, vendor: Vendor, error: Exchange, now: datetime, rng: Rng, *, probe: bool = False
) -> SubmitOutcome:
    """The exchange ended without an acceptance. `probe`: the account was held."""
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
        case Refused() if reason := _about_account(row, error, probe):
            return _hold(row, Refusal(reason, str(error), probe), error, now)
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


def _about_account(row: JobRow, error: Refused, probe: bool) -> HoldReason | None:
    """Return why an error concerns all jobs of the account; None if it may concern this one alone.

    A credential that the vendor calls too new or expired is signed anew a few times before.
    """
    if error.code == "account_exhausted" and error.vendor_code not in _OF_ONE_JOB:
        return HoldReason.EXHAUSTED
    is_last = probe or not error.retryable or row["tries"] + 1 >= AUTH_TRIES
    return HoldReason.UNAUTHORIZED if error.code == "vendor_auth" and is_last else None


def _hold(row: JobRow, refusal: Refusal, error: Refused, now: datetime) -> SubmitOutcome:
    """Hold the account. The refused job fails with the vendor's words; that of a probe waits on.

    So does one that was sent before: an earlier request may have been accepted after all.
    """
    if not refusal.probe and row["attempt"] == 1:
        return replace(failed(row, error), refusal=refusal)
    note = _note(error) | {"outcome": HELD}
    return SubmitOutcome(row, note, queue=_reschedule(row, now), refusal=refusal)


def _retry(row: JobRow, error: Refused, outcome: str, now: datetime, rng: Rng) -> SubmitOutcome:
    """Queue the job again, with a longer delay each time. Fail it at the end of the schedule."""
    tries = row["tries"] + 1
    wait = retry_delay(SUBMIT_SCHEDULE, tries, rng)
    if wait is None:
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
    """The vendor has no lookup: give a push time, then act by the account's policy."""
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
    silence = "no push came" if vendor.pushes else "the vendor pushes nothing"
    message = (
        f"the submission's answer was lost and {silence}: it may have been rendered; "
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
