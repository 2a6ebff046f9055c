"""What a report changes about a job, as a pure function: every race is one case of a table.

A push may come before the answer to the submission: it moves the job, and the late answer adds the
vendor's id. Facts are never fenced: a report stays true however late it arrives. The rank of the
job's state alone decides whether it moves the job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, cast

from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import AT_VENDOR, FINAL, RANK, JobState, Source, may_move
from orchestrator.jobs.query_economy import Expectation
from orchestrator.jobs.query_schedule import QueryChanges, after_report, poll_settings, query_soon
from orchestrator.schemas.base import rfc3339_or_none
from orchestrator.schemas.jobs import StoredFile
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.report import Output, Report

#: Computes when the next status query is due, if the job stays live.
_Schedule = Callable[[], QueryChanges]


class ReportEvent(NamedTuple):
    """A report about one job and its source.

    `attempt` is the submission whose callback token a push carried. `code` and `message` are our
    error if the report is a failure. `lease` fences a verdict that is ours and not the vendor's: it
    counts only while that claim lasts.
    """

    job_id: str
    report: Report
    source: Source
    attempt: int | None = None
    code: str = "vendor_failed"
    message: str | None = None
    lease: int | None = None


class ReportOutcome(StrEnum):
    """The effect of a report."""

    #: The job changed state; an event is published.
    MOVED = "moved"
    #: Progress or another detail is new.
    UPDATED = "updated"
    #: Nothing in it is new, or it is older than what is stored.
    STALE = "nothing_new"
    #: A second verdict that differs from the first. The first stands.
    CONTRADICTS = "contradicts"
    #: It may be about another attempt or another task: the vendor is asked.
    UNCONFIRMED = "unconfirmed"
    #: An unknown status word. The job stays live.
    UNKNOWN_WORD = "unknown_word"
    #: "Succeeded" without an output. The vendor is asked again for a while.
    NO_OUTPUT = "no_output"
    #: The vendor does not know the task: `job.stuck` is published.
    STUCK = "stuck"
    #: There is no such job.
    NO_JOB = "no_job"


class JobChanges(QueryChanges, total=False):
    """The columns of a job that a report may set."""

    vendor_task_id: str
    state: str
    vendor_status: str
    progress: int
    output: dict[str, Any] | None
    error: dict[str, Any] | None
    billing: Any
    vendor_updated_at: datetime
    outputless_since: datetime
    submitted_at: datetime
    finished_at: datetime
    resolved_by: str


@dataclass(frozen=True, slots=True)
class Transition:
    """The columns a report sets, and the state it moves the job to, if any."""

    outcome: ReportOutcome
    changes: JobChanges = field(default_factory=JobChanges)
    moved: JobState | None = None


def decide(
    row: JobRow,
    event: ReportEvent,
    vendor: Vendor | None,
    now: datetime,
    expected: Expectation | None = None,
) -> Transition:
    """Return what `event` changes about the job in `row`.

    `vendor` is None if the job's account is no longer configured, `expected` if too little is known
    about such jobs.
    """
    state, report = JobState(row["state"]), event.report
    facts = _task_id(row, event, vendor)
    if event.lease is not None and not _is_claimed(row, event):
        return Transition(ReportOutcome.STALE)
    if RANK[state] == 100:
        return _after_final(row, event, vendor, facts)
    if state is JobState.EXPIRED and report.state not in (JobState.SUCCEEDED, JobState.FAILED):
        return Transition(ReportOutcome.STALE, facts)
    if _needs_confirmation(row, event, vendor):
        # A job that is queued or being submitted keeps its schedule and its claim.
        soon = cast(JobChanges, query_soon(row, vendor, now)) if state in AT_VENDOR else {}
        return Transition(ReportOutcome.UNCONFIRMED, soon)
    schedule = partial(after_report, row, event.source, vendor, now, expected)
    if report.state is JobState.SUCCEEDED and not report.has_output:
        schedule = partial(after_report, row, event.source, vendor, now)
        return _without_output(row, event, vendor, now, facts, schedule)
    if report.state is None and may_move(state, JobState.SUBMITTED):
        # Whatever the word means, the vendor has the task.
        moved = _move(row, event, now, JobState.SUBMITTED, facts, schedule)
        return Transition(ReportOutcome.UNKNOWN_WORD, moved.changes, JobState.SUBMITTED)
    if report.state is not None and may_move(state, report.state):
        return _move(row, event, now, report.state, facts, schedule)
    facts |= cast(JobChanges, schedule())
    if report.state is None:
        return Transition(ReportOutcome.UNKNOWN_WORD, facts | _details(report))
    if report.state is state and _is_newer(row, report):
        return Transition(ReportOutcome.UPDATED, facts | _details(report))
    return Transition(ReportOutcome.STALE, facts)


def _is_claimed(row: JobRow, event: ReportEvent) -> bool:
    """True if the claim of a verdict is the latest, and no report has ended it since."""
    if event.source is Source.POLL:
        is_open = row["claimed_by"] is not None and row["state"] in AT_VENDOR
    else:
        is_open = row["state"] == JobState.SUBMITTING
    return is_open and event.lease == row["lease"]


def _task_id(row: JobRow, event: ReportEvent, vendor: Vendor | None) -> JobChanges:
    """Return the vendor's task id if the job has none yet.

    The id of a push counts only where the vendor answers status queries by that id.
    """
    task = event.report.vendor_task_id
    trusted = event.source is not Source.PUSH or (vendor is not None and vendor.push_id_is_ours)
    return {"vendor_task_id": task} if task and not row["vendor_task_id"] and trusted else {}


def _after_final(
    row: JobRow, event: ReportEvent, vendor: Vendor | None, facts: JobChanges
) -> Transition:
    """Return what a report adds to a final job: a charge that it does not have yet, and no event.

    Some vendors state it only after the result.
    """
    state, report = JobState(row["state"]), event.report
    differs = report.state in (JobState.SUCCEEDED, JobState.FAILED) and report.state is not state
    if differs and state is not JobState.CANCELED:
        return Transition(ReportOutcome.CONTRADICTS, facts)
    is_charged = report.billing is not None and row["billing"] is None
    if is_charged and not _needs_confirmation(row, event, vendor):
        return Transition(ReportOutcome.UPDATED, facts | {"billing": report.billing})
    return Transition(ReportOutcome.STALE, facts)


def _needs_confirmation(row: JobRow, event: ReportEvent, vendor: Vendor | None) -> bool:
    """True for a push that may be about another task, if the vendor can be asked instead.

    A relay may run our order on several of its channels, and an attempt of ours may have been
    resent: the failure of the abandoned one can arrive first. A vendor that pushes its own ids
    should push the id that it gave us.
    """
    if event.source is not Source.PUSH or vendor is None:
        return False
    if vendor.push_id_is_ours and _names_another_task(row, event.report):
        return True
    if event.report.state is not JobState.FAILED:
        return False
    older = event.attempt is not None and event.attempt < row["attempt"]
    return older or (vendor.runs_several_tasks and row["vendor_task_id"] is not None)


def _names_another_task(row: JobRow, report: Report) -> bool:
    """True if the report has a vendor id, and none of its ids is one of the job's."""
    known, named = row["vendor_task_id"], report.vendor_task_id
    if known is None or named is None:
        return False
    ids = (known, row["external_task_id"])
    return named not in ids and report.external_task_id not in ids


def _without_output(
    row: JobRow,
    event: ReportEvent,
    vendor: Vendor | None,
    now: datetime,
    facts: JobChanges,
    schedule: _Schedule,
) -> Transition:
    """Ask again for `output_grace` seconds after a success without an output, then fail the job.

    A dialect that serves clips with the account's key needs no URL: one more answer is enough.
    """
    since, task, poll = row["outputless_since"], row["vendor_task_id"], poll_settings(vendor)
    file = vendor.content(task) if vendor and task else None
    if since is not None and file and now >= after(since, poll.interval):
        file = file._replace(expires_at=event.report.expires_at)
        found = event._replace(report=event.report._replace(videos=(file,)))
        return _move(row, found, now, JobState.SUCCEEDED, facts, schedule)
    if since is not None and now >= after(since, poll.output_grace):
        verdict = ReportEvent(event.job_id, event.report, event.source, code="output_missing")
        return _move(row, verdict, now, JobState.FAILED, facts, schedule)
    facts |= {"outputless_since": since or now}
    state = JobState(row["state"])
    soon: JobChanges = {}
    if event.source is Source.PUSH and state not in FINAL:
        soon = cast(JobChanges, query_soon(row, vendor, now))
    if may_move(state, JobState.PROCESSING):
        moved = _move(row, event, now, JobState.PROCESSING, facts, schedule)
        return Transition(ReportOutcome.NO_OUTPUT, moved.changes | soon, JobState.PROCESSING)
    facts |= _details(event.report) | cast(JobChanges, schedule()) | soon
    return Transition(ReportOutcome.NO_OUTPUT, facts)


def _move(
    row: JobRow,
    event: ReportEvent,
    now: datetime,
    to: JobState,
    facts: JobChanges,
    schedule: _Schedule,
) -> Transition:
    changes: JobChanges = facts | _details(event.report) | {"state": to, "misses": 0}
    if to in FINAL:
        changes |= {"due_at": None, "finished_at": now, "resolved_by": event.source}
    else:
        changes |= cast(JobChanges, schedule())
    if event.source in _FROM_VENDOR and event.lease is None and row["submitted_at"] is None:
        changes["submitted_at"] = now
    if to is JobState.SUCCEEDED:
        changes |= {"output": output_json(event.report), "progress": 100, "error": None}
    if to is JobState.FAILED:
        changes["error"] = error_json(event.code, _message(event), event.report)
    return Transition(ReportOutcome.MOVED, changes, to)


_FROM_VENDOR = (Source.PUSH, Source.POLL, Source.SUBMIT, Source.LOOKUP)
_MESSAGES = {
    "vendor_failed": "the vendor could not make it",
    "output_missing": "the vendor says it succeeded but shows no output",
}


def _message(event: ReportEvent) -> str:
    if event.message is not None:
        return event.message
    parts = (_MESSAGES.get(event.code), event.report.message)
    return ": ".join(filter(None, parts)) or event.code


def _details(report: Report) -> JobChanges:
    """Return the details of a report that are stored whatever its outcome."""
    changes: JobChanges = {}
    if report.word:
        changes["vendor_status"] = report.word
    if report.progress is not None:
        changes["progress"] = report.progress
    if report.updated_at is not None:
        changes["vendor_updated_at"] = report.updated_at
    if report.billing is not None:
        changes["billing"] = report.billing
    return changes


def _is_newer(row: JobRow, report: Report) -> bool:
    """True if a report of the same state is newer by the vendor's clock, or shows more progress."""
    known, progress = row["vendor_updated_at"], row["progress"]
    if report.updated_at is not None and (known is None or report.updated_at > known):
        return True
    return report.progress is not None and (progress is None or report.progress > progress)


def output_json(report: Report) -> dict[str, Any]:
    """Return the column `output` of a job: the files that the vendor made."""
    return {
        "videos": [_file_json(file) for file in report.videos],
        "images": [_file_json(file) for file in report.images],
        "audios": [_file_json(file) for file in report.audios],
    }


def _file_json(file: Output) -> StoredFile:
    return {
        "id": file.id,
        "url": file.url,
        "duration": file.duration,
        "expires_at": rfc3339_or_none(file.expires_at),
        "watermark_url": file.watermark_url,
        "needs_key": file.needs_key,
        "is_stated": file.is_stated,
    }


def error_json(code: str, message: str, report: Report) -> dict[str, Any]:
    """Return a job's `error`: our code and message, and the vendor's if it gave any."""
    return {
        "code": code,
        "message": message,
        "vendor_code": report.vendor_code,
        "vendor_message": report.message,
    }
