"""What a report changes about a job: a pure function, so that every race can be told as a table of cases.

Facts are never fenced: whoever learned it, however late, a report is still true. Rank alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from orchestrator.foundation.clock import after, grown
from orchestrator.foundation.settings.accounts import Poll
from orchestrator.foundation.states import AT_VENDOR, FINAL, RANK, JobState, Source, may_move
from orchestrator.schemas.base import Json, rfc3339_or_none
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.report import Output, Report

Row = Mapping[str, Any]
Values = dict[str, Any]


class ReportEvent(NamedTuple):
    """A report about one job, and how we came by it.

    `attempt` is the submission whose callback token a push carried; `code` and `words` are our error
    if the report is a failure.
    `lease` fences a verdict that is ours, not the vendor's: it counts only while that claim is the last one.
    """

    job_id: str
    report: Report
    source: Source
    attempt: int | None = None
    code: str = "vendor_failed"
    words: str | None = None
    lease: int | None = None


class ReportOutcome(StrEnum):
    """What a report came to."""

    #: The job changed state, and those who care are told.
    MOVED = "moved"
    #: Progress or another detail is new.
    UPDATED = "updated"
    #: Nothing in it is new, or it is older than what we know.
    STALE = "nothing_new"
    #: A second verdict that differs from the first. The first stands.
    CONTRADICTS = "contradicts"
    #: It may be about another attempt, or another task: the vendor is asked.
    UNCONFIRMED = "unconfirmed"
    #: A status word we do not know. The job stays live.
    UNKNOWN_WORD = "unknown_word"
    #: "Succeeded", and nothing to fetch. The vendor is asked again for a while.
    NO_OUTPUT = "no_output"
    #: There is no such job.
    NO_JOB = "no_job"


@dataclass(frozen=True, slots=True)
class Transition:
    """The columns a report sets, and the state it moved the job to, if it did."""

    outcome: ReportOutcome
    values: Values = field(default_factory=dict)
    moved: JobState | None = None


def decide(row: Row, heard: ReportEvent, vendor: Vendor | None, now: datetime) -> Transition:
    """Return what `heard` changes about the job in `row`. `vendor` is None if its account is configured no more."""
    state, report = JobState(row["state"]), heard.report
    facts = _facts(row, heard, vendor)
    if heard.lease is not None and (
        heard.lease != row["lease"] or state is not JobState.SUBMITTING
    ):
        return Transition(ReportOutcome.STALE)
    if RANK[state] == 100:
        return Transition(_against(state, report), facts)
    if state is JobState.EXPIRED and report.state not in (JobState.SUCCEEDED, JobState.FAILED):
        return Transition(ReportOutcome.STALE, facts)
    if _doubtful(row, heard, vendor):
        return Transition(ReportOutcome.UNCONFIRMED, _at_once(state, now))
    if report.state is JobState.SUCCEEDED and not report.has_output:
        return _outputless(row, heard, vendor, now, facts)
    if report.state is None and may_move(state, JobState.SUBMITTED):
        # Whatever the word means, the vendor has it.
        moved = _move(row, heard, vendor, now, JobState.SUBMITTED, facts)
        return Transition(ReportOutcome.UNKNOWN_WORD, moved.values, JobState.SUBMITTED)
    if report.state is None:
        return Transition(
            ReportOutcome.UNKNOWN_WORD, facts | _said(report) | _patience(row, heard, vendor, now)
        )
    if may_move(state, report.state):
        return _move(row, heard, vendor, now, report.state, facts)
    if report.state is state and _is_news(row, report):
        return Transition(
            ReportOutcome.UPDATED, facts | _said(report) | _patience(row, heard, vendor, now)
        )
    return Transition(ReportOutcome.STALE, facts | _patience(row, heard, vendor, now))


def _facts(row: Row, heard: ReportEvent, vendor: Vendor | None) -> Values:
    """Return the vendor's id for the job, if it is news. A push's id counts only where it is the one we can ask by."""
    task = heard.report.vendor_task_id
    if (
        not task
        or row["vendor_task_id"]
        or (heard.source is Source.PUSH and not (vendor and vendor.push_id_is_ours))
    ):
        return {}
    return {"vendor_task_id": task}


def _against(state: JobState, report: Report) -> ReportOutcome:
    differs = report.state in (JobState.SUCCEEDED, JobState.FAILED) and report.state is not state
    return (
        ReportOutcome.CONTRADICTS
        if differs and state is not JobState.CANCELED
        else ReportOutcome.STALE
    )


def _doubtful(row: Row, heard: ReportEvent, vendor: Vendor | None) -> bool:
    """True for a push that may be about another task than the one we know, if the vendor can be asked instead.

    A relay may have run our order on several of its channels, and an attempt of ours may have been resent: the dead
    one's failure can come first. And a vendor that pushes its own ids should push the one it gave us.
    """
    if heard.source is not Source.PUSH or vendor is None:
        return False
    if vendor.push_id_is_ours and _names_another(row, heard.report):
        return True
    if heard.report.state is not JobState.FAILED:
        return False
    older = heard.attempt is not None and heard.attempt < row["attempt"]
    return older or (vendor.siblings and row["vendor_task_id"] is not None)


def _names_another(row: Row, report: Report) -> bool:
    """True if both of a report's ids, as far as it has them, are not the job's."""
    known, said, ours = row["vendor_task_id"], report.vendor_task_id, row["external_task_id"]
    if known is None or said is None:
        return False
    return said not in (known, ours) and report.external_task_id not in (known, ours)


def _outputless(
    row: Row, heard: ReportEvent, vendor: Vendor | None, now: datetime, facts: Values
) -> Transition:
    """Do not believe a success that shows nothing: ask again for a bounded time, then call it a failure."""
    since = row["outputless_since"]
    if since is not None and now >= after(since, _poll(vendor).output_grace):
        verdict = ReportEvent(heard.job_id, heard.report, heard.source, code="output_missing")
        return _move(row, verdict, vendor, now, JobState.FAILED, facts)
    facts |= {"outputless_since": since or now}
    state = JobState(row["state"])
    asking = {} if heard.source is not Source.PUSH or state in FINAL else {"due_at": now}
    if may_move(state, JobState.PROCESSING):
        moved = _move(row, heard, vendor, now, JobState.PROCESSING, facts)
        return Transition(ReportOutcome.NO_OUTPUT, moved.values | asking, JobState.PROCESSING)
    return Transition(
        ReportOutcome.NO_OUTPUT,
        facts | _said(heard.report) | _patience(row, heard, vendor, now) | asking,
    )


def _at_once(state: JobState, now: datetime) -> Values:
    """Ask now, where there is somebody to ask: a job that is queued or being submitted keeps its schedule and claim."""
    return {"due_at": now} if state in AT_VENDOR else {}


def _move(
    row: Row, heard: ReportEvent, vendor: Vendor | None, now: datetime, to: JobState, facts: Values
) -> Transition:
    values = facts | _said(heard.report) | {"state": to, "misses": 0}
    if to in FINAL:
        values |= {"due_at": None, "finished_at": now, "resolved_by": heard.source}
    else:
        values |= _patience(row, heard, vendor, now)
    if heard.source in _VENDOR_SPEAKS and heard.lease is None and row["submitted_at"] is None:
        values["submitted_at"] = now
    if to is JobState.SUCCEEDED:
        values |= {"output": output_json(heard.report), "progress": 100, "error": None}
    if to is JobState.FAILED:
        values["error"] = error_json(heard.code, _why(heard), heard.report)
    return Transition(ReportOutcome.MOVED, values, to)


_VENDOR_SPEAKS = (Source.PUSH, Source.POLL, Source.SUBMIT, Source.LOOKUP)


def _why(heard: ReportEvent) -> str:
    if heard.words is not None:
        return heard.words
    reasons = {
        "vendor_failed": "the vendor could not make it",
        "output_missing": "the vendor says it succeeded but shows no output",
    }
    words = reasons.get(heard.code, "")
    return ": ".join(filter(None, (words, heard.report.message))) or heard.code


def _said(report: Report) -> Values:
    """Return the details of a report that are worth keeping whatever it comes to."""
    values: Values = {}
    if report.word:
        values["vendor_status"] = report.word
    if report.progress is not None:
        values["progress"] = report.progress
    if report.updated_at is not None:
        values["vendor_updated_at"] = report.updated_at
    return values


def _is_news(row: Row, report: Report) -> bool:
    """True if a report of the same state is newer by the vendor's clock, or further on."""
    known, progress = row["vendor_updated_at"], row["progress"]
    newer = report.updated_at is not None and (known is None or report.updated_at > known)
    return newer or (
        report.progress is not None and (progress is None or report.progress > progress)
    )


def _patience(row: Row, heard: ReportEvent, vendor: Vendor | None, now: datetime) -> Values:
    """Return when silence becomes suspicious: after a push anew, after an answer ever later. Live jobs only."""
    if row["state"] in FINAL:
        return {}
    poll = _poll(vendor)
    if heard.source in (Source.POLL, Source.LOOKUP):
        wait = grown(poll.interval, row["asks"], factor=1.5, most=poll.max_interval)
        return {"asks": row["asks"] + 1, "misses": 0, "due_at": after(now, wait)}
    return {"asks": 0, "misses": 0, "due_at": after(now, poll.first_after)}


def _poll(vendor: Vendor | None) -> Poll:
    return vendor.account.poll if vendor else Poll()


def output_json(report: Report) -> Json:
    """Return a job's `output`: what the vendor made."""
    return {
        "videos": [_file(one) for one in report.videos],
        "images": [_file(one) for one in report.images],
    }


def _file(made: Output) -> Json:
    return {
        "id": made.id,
        "url": made.url,
        "duration": made.duration,
        "expires_at": rfc3339_or_none(made.expires_at),
    }


def error_json(code: str, message: str, report: Report | None = None) -> Json:
    """Return a job's `error`: our code and words, and the vendor's if it had any."""
    return {
        "code": code,
        "message": message,
        "vendor_code": report.vendor_code if report else None,
        "vendor_message": report.message if report else None,
    }
