"""The transition of a job by a report: every race as a row of a table."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import after, backoff
from orchestrator.foundation.settings.accounts import Account, Poll
from orchestrator.foundation.states import FINAL, RANK, JobState, Source
from orchestrator.jobs.transition import ReportEvent, ReportOutcome, Transition, decide
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.registry import load
from orchestrator.vendors.report import Output, Report
from tests.harness.runtime import START, ManualClock

S = JobState
VIDEO = (Output("https://cdn.example.com/v.mp4"),)
POLL = Poll(first_after=60, interval=15, max_interval=120, output_grace=300)
#: Every state that a report can have. None: the vendor's word is unknown.
REPORTED = (None, S.SUBMITTED, S.PROCESSING, S.SUCCEEDED, S.FAILED, S.CANCELED, S.EXPIRED)
LATER = after(START, 10)


def vendor(name: str = "agentsflare") -> Vendor:
    account = Account(
        vendor=name,
        base_url="https://gw.example.com",
        api_key=SecretStr("k"),
        poll=POLL,
        options=OPTIONS.get(name, {}),
    )
    return load()[name](account.named("main"), ManualClock())


OPTIONS = {"cloudsway": {"endpoint_path": "e"}}
PLAIN = vendor()
FORKING = vendor("cubicspaces")
FAITHFUL = vendor("kling")


def row(state: JobState, **values: Any) -> JobRow:
    known: dict[str, Any] = {
        "id": "job_1", "state": state, "attempt": 1, "lease": 3, "asks": 0, "misses": 0,
        "queried_at": None, "claimed_by": None,
        "vendor_task_id": None, "external_task_id": "order-1",
        "vendor_updated_at": None, "progress": None, "outputless_since": None, "submitted_at": None,
        "billing": None, "due_at": None if state in FINAL else START,
        "deadline_at": after(START, 86_400),
    }  # fmt: skip
    return cast(JobRow, known | values)


def event(state: JobState | None, source: Source = Source.PUSH, **values: Any) -> ReportEvent:
    """Return a complete report: a success has a video."""
    fields = {name: values.pop(name) for name in ("attempt", "code", "lease") if name in values}
    made = {"videos": VIDEO} if state is S.SUCCEEDED else {}
    return ReportEvent("job_1", Report(state, **made | {"word": "raw"} | values), source, **fields)


def decided(
    known: JobRow, report: ReportEvent, by: Vendor | None = PLAIN, at: datetime = LATER
) -> Transition:
    return decide(known, report, by, at)


# -- every state, every report, every source


@pytest.mark.parametrize("state", list(S))
def test_no_report_lowers_the_rank_or_changes_a_final_job(state: JobState) -> None:
    for reported, source in product(REPORTED, Source):
        change = decided(row(state), event(reported, source))
        now = change.moved or state
        assert RANK[now] >= RANK[state]
        assert (change.moved is not None) is (change.changes.get("state", state) != state)
        if RANK[state] == 100:
            assert change.moved is None
            assert not change.changes.keys() - {"vendor_task_id"}
        if now in FINAL:
            assert change.changes.get("due_at") is None
        elif change.changes:
            assert change.changes.get("due_at", START) is not None


@pytest.mark.parametrize(
    ("state", "reported", "outcome", "moved"),
    [
        (S.QUEUED, S.SUBMITTED, ReportOutcome.MOVED, S.SUBMITTED),
        (S.SUBMITTING, S.SUBMITTED, ReportOutcome.MOVED, S.SUBMITTED),
        (S.SUBMITTING, S.PROCESSING, ReportOutcome.MOVED, S.PROCESSING),
        (S.SUBMITTING, S.SUCCEEDED, ReportOutcome.MOVED, S.SUCCEEDED),
        (S.SUBMITTED, S.SUBMITTED, ReportOutcome.STALE, None),
        (S.SUBMITTED, S.PROCESSING, ReportOutcome.MOVED, S.PROCESSING),
        (S.PROCESSING, S.SUBMITTED, ReportOutcome.STALE, None),
        (S.PROCESSING, S.SUCCEEDED, ReportOutcome.MOVED, S.SUCCEEDED),
        (S.PROCESSING, S.FAILED, ReportOutcome.MOVED, S.FAILED),
        (S.PROCESSING, S.CANCELED, ReportOutcome.MOVED, S.CANCELED),
        (S.PROCESSING, S.EXPIRED, ReportOutcome.MOVED, S.EXPIRED),
        (S.SUCCEEDED, S.SUCCEEDED, ReportOutcome.STALE, None),
        (S.SUCCEEDED, S.PROCESSING, ReportOutcome.STALE, None),
        (S.SUCCEEDED, S.FAILED, ReportOutcome.CONTRADICTS, None),
        (S.FAILED, S.SUCCEEDED, ReportOutcome.CONTRADICTS, None),
        (S.FAILED, S.EXPIRED, ReportOutcome.STALE, None),
        (S.CANCELED, S.SUCCEEDED, ReportOutcome.STALE, None),
        (S.EXPIRED, S.PROCESSING, ReportOutcome.STALE, None),
        (S.EXPIRED, S.CANCELED, ReportOutcome.STALE, None),
        (S.EXPIRED, S.SUCCEEDED, ReportOutcome.MOVED, S.SUCCEEDED),
        (S.EXPIRED, S.FAILED, ReportOutcome.MOVED, S.FAILED),
    ],
)
def test_the_outcome_of_a_report(
    state: JobState, reported: JobState, outcome: ReportOutcome, moved: JobState | None
) -> None:
    change = decided(row(state), event(reported))
    assert (change.outcome, change.moved) == (outcome, moved)


def test_an_end_records_its_time_source_and_result() -> None:
    change = decided(row(S.PROCESSING, progress=40), event(S.SUCCEEDED, Source.POLL))
    assert change.changes["finished_at"] == LATER
    assert change.changes["resolved_by"] == Source.POLL
    assert change.changes["progress"] == 100
    assert (change.changes["output"] or {})["videos"][0]["url"] == VIDEO[0].url
    failed = decided(
        row(S.PROCESSING),
        event(S.FAILED, message="no cats", vendor_code=1301, code="vendor_refused"),
    )
    assert (failed.changes["error"] or {})["code"] == "vendor_refused"
    assert (failed.changes["error"] or {})["vendor_code"] == 1301
    assert "no cats" in (failed.changes["error"] or {})["message"]


@pytest.mark.parametrize(
    ("source", "submitted"),
    [(Source.PUSH, True), (Source.POLL, True), (Source.LOOKUP, True), (Source.SUBMIT, True),
     (Source.CLOCK, False), (Source.OPERATOR, False)],
)  # fmt: skip
def test_only_a_vendors_report_proves_that_a_job_was_submitted(
    source: Source, submitted: bool
) -> None:
    change = decided(row(S.SUBMITTING), event(S.FAILED, source))
    assert ("submitted_at" in change.changes) is submitted


# -- reports of the same rank


@pytest.mark.parametrize(
    ("known", "news", "outcome"),
    [
        ({}, {}, ReportOutcome.STALE),
        ({}, {"progress": 0}, ReportOutcome.UPDATED),
        ({"progress": 30}, {"progress": 30}, ReportOutcome.STALE),
        ({"progress": 30}, {"progress": 29}, ReportOutcome.STALE),
        ({"progress": 30}, {"progress": 31}, ReportOutcome.UPDATED),
        ({}, {"updated_at": START}, ReportOutcome.UPDATED),
        ({"vendor_updated_at": START}, {"updated_at": START}, ReportOutcome.STALE),
        ({"vendor_updated_at": LATER}, {"updated_at": START}, ReportOutcome.STALE),
        ({"vendor_updated_at": START}, {"updated_at": LATER}, ReportOutcome.UPDATED),
    ],
)
def test_at_equal_rank_only_a_newer_time_or_more_progress_is_an_update(
    known: dict[str, Any], news: dict[str, Any], outcome: ReportOutcome
) -> None:
    change = decided(row(S.PROCESSING, **known), event(S.PROCESSING, **news))
    assert change.outcome is outcome
    assert ("vendor_status" in change.changes) is (outcome is ReportOutcome.UPDATED)


# -- unknown words, and successes without output


@pytest.mark.parametrize("state", [S.SUBMITTED, S.PROCESSING])
def test_an_unknown_word_is_stored_and_the_state_stays(state: JobState) -> None:
    change = decided(row(state), event(None, word="dreaming"))
    assert (change.outcome, change.moved) == (ReportOutcome.UNKNOWN_WORD, None)
    assert change.changes["vendor_status"] == "dreaming"
    assert (change.changes["due_at"] or START) > LATER


@pytest.mark.parametrize("state", [S.QUEUED, S.SUBMITTING])
def test_an_unknown_word_still_proves_that_the_vendor_has_the_job(state: JobState) -> None:
    change = decided(row(state), event(None, word="dreaming"))
    assert (change.outcome, change.moved) == (ReportOutcome.UNKNOWN_WORD, S.SUBMITTED)
    assert change.changes["submitted_at"] == LATER


def test_a_pushed_success_without_output_is_polled_at_once() -> None:
    change = decided(row(S.SUBMITTED), event(S.SUCCEEDED, videos=()))
    assert (change.outcome, change.moved) == (ReportOutcome.NO_OUTPUT, S.PROCESSING)
    assert change.changes["due_at"] == change.changes["outputless_since"] == LATER


@pytest.mark.parametrize(
    ("state", "report", "outcome"),
    [
        (S.SUBMITTED, event(S.SUCCEEDED, videos=()), ReportOutcome.NO_OUTPUT),
        (S.PROCESSING, event(S.SUCCEEDED, videos=()), ReportOutcome.NO_OUTPUT),
        (S.PROCESSING, event(S.FAILED, attempt=1), ReportOutcome.UNCONFIRMED),
    ],
)
def test_an_uncertain_push_leaves_a_job_that_is_being_queried_to_its_claim(
    state: JobState, report: ReportEvent, outcome: ReportOutcome
) -> None:
    ends = after(LATER, 90)
    change = decided(row(state, attempt=2, claimed_by=1, due_at=ends), report)
    assert (change.outcome, change.changes["due_at"]) == (outcome, ends)


def test_a_success_without_output_is_polled_again_and_fails_after_its_grace() -> None:
    waiting = row(S.PROCESSING, outputless_since=START, asks=2)
    empty = event(S.SUCCEEDED, Source.POLL, videos=())
    still = decided(waiting, empty, at=after(START, 299))
    assert (still.outcome, still.moved) == (ReportOutcome.NO_OUTPUT, None)
    assert still.changes["due_at"] == after(START, 299 + backoff(15, 2, factor=1.5, most=120))
    assert still.changes["outputless_since"] == START
    ended = decided(waiting, empty, at=after(START, 300))
    assert (ended.outcome, ended.moved) == (ReportOutcome.MOVED, S.FAILED)
    assert (ended.changes["error"] or {})["code"] == "output_missing"


def test_a_success_whose_clip_the_vendor_serves_with_the_key_needs_no_url() -> None:
    waiting = row(S.PROCESSING, outputless_since=START, vendor_task_id="t/1")
    empty = event(S.SUCCEEDED, Source.POLL, videos=())
    serving = vendor("cubicspaces")
    assert decided(waiting, empty, by=serving, at=after(START, 14)).moved is None
    ended = decided(waiting, empty, by=serving, at=after(START, 15))
    assert ended.moved is S.SUCCEEDED
    (video,) = (ended.changes["output"] or {})["videos"]
    assert video["url"] == f"{serving.base_url}/v1/videos/t%2F1/content"
    assert video["expires_at"] is None
    stated = empty.report._replace(expires_at=after(START, 3600))
    dated = decided(waiting, empty._replace(report=stated), by=serving, at=after(START, 15))
    assert (dated.changes["output"] or {})["videos"][0]["expires_at"] is not None


def test_an_output_that_arrives_within_the_grace_is_a_success() -> None:
    change = decided(
        row(S.PROCESSING, outputless_since=START),
        event(S.SUCCEEDED, Source.POLL),
        at=after(START, 9999),
    )
    assert change.moved is S.SUCCEEDED


def test_a_success_without_output_never_makes_an_expired_job_due() -> None:
    change = decided(row(S.EXPIRED), event(S.SUCCEEDED, videos=()))
    assert change.outcome is ReportOutcome.NO_OUTPUT
    assert "due_at" not in change.changes


# -- failures that may belong to another attempt


@pytest.mark.parametrize(
    ("by", "known", "attempt", "source", "outcome"),
    [
        (PLAIN, {"attempt": 2}, 1, Source.PUSH, ReportOutcome.UNCONFIRMED),
        (PLAIN, {"attempt": 2}, 2, Source.PUSH, ReportOutcome.MOVED),
        (PLAIN, {"attempt": 2}, None, Source.POLL, ReportOutcome.MOVED),
        (None, {"attempt": 2}, 1, Source.PUSH, ReportOutcome.MOVED),
        (FORKING, {"vendor_task_id": "t"}, 1, Source.PUSH, ReportOutcome.UNCONFIRMED),
        (FORKING, {"vendor_task_id": "t"}, None, Source.POLL, ReportOutcome.MOVED),
        (FORKING, {}, 1, Source.PUSH, ReportOutcome.MOVED),
    ],
)
def test_a_pushed_failure_is_unconfirmed_where_another_task_may_still_succeed(
    by: Vendor | None,
    known: dict[str, Any],
    attempt: int | None,
    source: Source,
    outcome: ReportOutcome,
) -> None:
    change = decided(row(S.PROCESSING, **known), event(S.FAILED, source, attempt=attempt), by)
    assert change.outcome is outcome
    if outcome is ReportOutcome.UNCONFIRMED:
        assert change.changes == {"due_at": LATER}, "the vendor is polled now"


@pytest.mark.parametrize("state", [S.QUEUED, S.SUBMITTING, S.EXPIRED])
def test_an_unconfirmed_failure_changes_nothing_where_polling_is_impossible(
    state: JobState,
) -> None:
    """A job being submitted keeps its claim: made due, it would look lost and be sent twice."""
    change = decided(row(state, attempt=2), event(S.FAILED, attempt=1))
    assert (change.outcome, change.changes) == (ReportOutcome.UNCONFIRMED, {})


@pytest.mark.parametrize("by", [PLAIN, FORKING])
def test_an_older_attempts_success_is_a_success(by: Vendor) -> None:
    change = decided(
        row(S.PROCESSING, attempt=2, vendor_task_id="t"), event(S.SUCCEEDED, attempt=1), by
    )
    assert change.moved is S.SUCCEEDED


# -- ids


@pytest.mark.parametrize(
    ("by", "source", "known", "adopted"),
    [
        (FAITHFUL, Source.PUSH, None, True),
        (PLAIN, Source.PUSH, None, False),
        (None, Source.PUSH, None, False),
        (PLAIN, Source.SUBMIT, None, True),
        (PLAIN, Source.POLL, None, True),
        (PLAIN, Source.LOOKUP, None, True),
        (FAITHFUL, Source.SUBMIT, "older", False),
    ],
)
def test_a_vendor_task_id_is_adopted_once_and_from_a_push_only_where_it_is_the_id_to_poll_by(
    by: Vendor | None, source: Source, known: str | None, adopted: bool
) -> None:
    change = decided(
        row(S.SUBMITTED, vendor_task_id=known),
        event(S.PROCESSING, source, vendor_task_id="t-1"),
        by,
    )
    assert (change.changes.get("vendor_task_id") == "t-1") is adopted


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_late_answer_to_a_submission_adds_the_task_id_only(state: JobState) -> None:
    change = decided(row(state), event(S.SUBMITTED, Source.SUBMIT, vendor_task_id="t-1"))
    assert change.changes == {"vendor_task_id": "t-1"}


@pytest.mark.parametrize(
    ("state", "known", "report", "is_added"),
    [
        (S.SUCCEEDED, {}, event(S.SUCCEEDED, billing={"units": 1}), True),
        (S.FAILED, {}, event(S.FAILED, Source.POLL, billing={"units": 0}), True),
        (S.CANCELED, {}, event(S.SUCCEEDED, billing={"units": 1}), True),
        (S.SUCCEEDED, {"billing": {"units": 2}}, event(S.SUCCEEDED, billing={"units": 1}), False),
        # A second verdict is not believed, nor what it charges.
        (S.SUCCEEDED, {}, event(S.FAILED, billing={"units": 1}), False),
        # It may be about another attempt or another task.
        (S.FAILED, {"attempt": 2}, event(S.FAILED, attempt=1, billing={"units": 1}), False),
        (
            S.SUCCEEDED,
            {"vendor_task_id": "t-1"},
            event(S.SUCCEEDED, vendor_task_id="t-2", billing={"units": 1}),
            False,
        ),
    ],
)
def test_a_charge_that_comes_after_the_end_is_added_once(
    state: JobState, known: dict[str, Any], report: ReportEvent, is_added: bool
) -> None:
    change = decided(row(state, **known), report, FAITHFUL)
    charge = {"billing": report.report.billing} if is_added else {}
    assert (change.moved, change.changes) == (None, charge)
    assert (change.outcome is ReportOutcome.UPDATED) is is_added


# -- failures that we decide ourselves


@pytest.mark.parametrize(
    ("source", "state", "claimed_by", "lease", "outcome"),
    [
        (Source.SUBMIT, S.SUBMITTING, 1, 3, ReportOutcome.MOVED),
        (Source.SUBMIT, S.SUBMITTING, 1, 2, ReportOutcome.STALE),
        (Source.SUBMIT, S.SUBMITTED, 1, 3, ReportOutcome.STALE),
        (Source.SUBMIT, S.QUEUED, None, 3, ReportOutcome.STALE),
        (Source.SUBMIT, S.EXPIRED, None, 3, ReportOutcome.STALE),
        (Source.POLL, S.SUBMITTED, 1, 3, ReportOutcome.MOVED),
        (Source.POLL, S.PROCESSING, 1, 3, ReportOutcome.MOVED),
        (Source.POLL, S.PROCESSING, 1, 2, ReportOutcome.STALE),
        (Source.POLL, S.PROCESSING, None, 3, ReportOutcome.STALE),
        (Source.POLL, S.EXPIRED, None, 3, ReportOutcome.STALE),
    ],
)
def test_a_failure_we_decide_is_fenced_by_the_last_claim(
    source: Source, state: JobState, claimed_by: int | None, lease: int, outcome: ReportOutcome
) -> None:
    ours = event(S.FAILED, source, lease=lease, code="vendor_refused")
    change = decided(row(state, claimed_by=claimed_by), ours)
    assert change.outcome is outcome
    assert bool(change.changes) is (outcome is ReportOutcome.MOVED)


# -- the next poll


@pytest.mark.parametrize("source", [Source.PUSH, Source.SUBMIT])
def test_a_report_from_the_vendor_postpones_the_next_poll(source: Source) -> None:
    change = decided(row(S.SUBMITTING, asks=5, misses=2), event(S.SUBMITTED, source))
    assert (change.changes["due_at"], change.changes["asks"], change.changes["misses"]) == (
        after(LATER, 60),
        0,
        0,
    )


@pytest.mark.parametrize(("asks", "wait"), [(0, 15), (1, 22.5), (2, 33.75), (20, 120)])
def test_the_interval_between_polls_grows(asks: int, wait: float) -> None:
    change = decided(row(S.PROCESSING, asks=asks, misses=2), event(S.PROCESSING, Source.POLL))
    assert (change.changes["due_at"], change.changes["asks"]) == (after(LATER, wait), asks + 1)
    assert change.changes["misses"] == 0


# -- any sequence of reports

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "state": st.sampled_from(REPORTED),
    "word": st.sampled_from(("", "raw")),
    "vendor_task_id": st.sampled_from((None, "t-1")),
    "progress": st.one_of(st.none(), st.integers(0, 100)),
    "videos": st.sampled_from(((), VIDEO)),
    "updated_at": st.sampled_from((None, START, LATER)),
}
REPORTS = st.fixed_dictionaries(FIELDS).map(lambda given: Report(**given))
EVENTS = st.builds(
    ReportEvent,
    job_id=st.just("job_1"),
    report=REPORTS,
    source=st.sampled_from(Source),
    attempt=st.sampled_from((None, 1, 2)),
    lease=st.sampled_from((None, 2, 3)),
)


@given(
    st.sampled_from(S),
    st.lists(EVENTS, max_size=12),
    st.sampled_from((None, PLAIN, FORKING, FAITHFUL)),
    st.lists(st.integers(0, 400), min_size=12, max_size=12),
)  # fmt: skip
def test_no_sequence_of_reports_breaks_a_row(
    state: JobState, reports: list[ReportEvent], by: Vendor | None, waits: list[int]
) -> None:
    known, now, ends = row(state), START, 0
    for report, seconds in zip(reports, waits, strict=False):
        now = after(now, seconds)
        change = decide(known, report, by, now)
        before = JobState(known["state"])
        known = cast(JobRow, {**known, **change.changes})
        after_it = JobState(known["state"])
        assert RANK[after_it] >= RANK[before]
        assert change.moved is (after_it if after_it is not before else None)
        ends += change.moved in FINAL and change.moved is not S.EXPIRED
        assert (known["due_at"] is not None) is (after_it not in FINAL)
    assert ends <= 1


# -- pushes about another task


@pytest.mark.parametrize(
    ("by", "ids", "outcome"),
    [
        (FAITHFUL, {"vendor_task_id": "t-2"}, ReportOutcome.UNCONFIRMED),
        (
            FAITHFUL,
            {"vendor_task_id": "t-2", "external_task_id": "order-2"},
            ReportOutcome.UNCONFIRMED,
        ),
        (FAITHFUL, {"vendor_task_id": "t-2", "external_task_id": "order-1"}, ReportOutcome.MOVED),
        (FAITHFUL, {"vendor_task_id": "t-1"}, ReportOutcome.MOVED),
        (FAITHFUL, {}, ReportOutcome.MOVED),
        # A gateway forwards our URL: Kling pushes, with an id that the gateway never returned.
        (PLAIN, {"vendor_task_id": "t-2"}, ReportOutcome.MOVED),
    ],
)
def test_a_push_that_names_another_task_is_unconfirmed_where_the_vendor_pushes_its_own_ids(
    by: Vendor, ids: dict[str, Any], outcome: ReportOutcome
) -> None:
    change = decided(row(S.SUBMITTED, vendor_task_id="t-1"), event(S.SUCCEEDED, **ids), by)
    assert change.outcome is outcome
    assert (change.changes["due_at"] == LATER) is (outcome is ReportOutcome.UNCONFIRMED)
