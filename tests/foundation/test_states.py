"""The states of a job, their ranks and the moves between them."""

from __future__ import annotations

from itertools import product

import pytest

from orchestrator.foundation.states import (
    AT_VENDOR,
    FINAL,
    FINAL_EVENTS,
    IN_FLIGHT,
    RANK,
    EventType,
    JobState,
    may_move,
)

LADDER = (
    JobState.QUEUED,
    JobState.SUBMITTING,
    JobState.SUBMITTED,
    JobState.PROCESSING,
    JobState.EXPIRED,
)
OUTCOMES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


def test_every_state_has_a_rank() -> None:
    assert set(RANK) == set(JobState)


def test_ranks_rise_with_what_is_known() -> None:
    ranks = [RANK[state] for state in LADDER]
    assert ranks == sorted(set(ranks))
    assert {RANK[state] for state in OUTCOMES} == {100}


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_a_move_never_lowers_the_rank(old: JobState, new: JobState) -> None:
    assert may_move(old, new) is (RANK[old] < RANK[new])


@pytest.mark.parametrize(("old", "new"), list(product(OUTCOMES, JobState)))
def test_no_report_moves_a_job_out_of_a_permanent_state(old: JobState, new: JobState) -> None:
    assert not may_move(old, new)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_expired_is_overridden_by_a_final_report(outcome: JobState) -> None:
    assert may_move(JobState.EXPIRED, outcome)


def test_every_live_state_after_queued_holds_a_slot() -> None:
    assert set(IN_FLIGHT) == set(JobState) - FINAL - {JobState.QUEUED}
    assert set(AT_VENDOR) == set(IN_FLIGHT) - {JobState.SUBMITTING}


def test_who_chose_nothing_hears_exactly_the_ends() -> None:
    assert set(FINAL_EVENTS) == {"job.succeeded", "job.failed", "job.canceled", "job.expired"}
    assert set(FINAL_EVENTS) <= set(EventType)


def test_every_state_after_submitting_has_an_event() -> None:
    told = {state for state in JobState if f"job.{state}" in set(EventType)}
    assert told == set(JobState) - {JobState.QUEUED, JobState.SUBMITTING}
