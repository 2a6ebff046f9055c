"""The words for what a job and a delivery can be, and the ways between them."""

from __future__ import annotations

from itertools import product

import pytest

from orchestrator.foundation.states import (
    AT_VENDOR,
    FINAL,
    FINAL_EVENTS,
    IN_FLIGHT,
    LIVE,
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
VERDICTS = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


def test_every_state_has_a_rank_and_is_either_live_or_final() -> None:
    assert set(RANK) == set(JobState)
    assert frozenset(JobState) == LIVE | FINAL
    assert not LIVE & FINAL


def test_ranks_climb_in_the_order_of_knowledge() -> None:
    ranks = [RANK[state] for state in LADDER]
    assert ranks == sorted(set(ranks))
    assert {RANK[state] for state in VERDICTS} == {100}


@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_a_move_never_lowers_the_rank(old: JobState, new: JobState) -> None:
    assert may_move(old, new) is (RANK[old] < RANK[new])


@pytest.mark.parametrize(("old", "new"), list(product(VERDICTS, JobState)))
def test_nothing_moves_a_job_from_its_last_state(old: JobState, new: JobState) -> None:
    assert not may_move(old, new)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_clock_is_overtaken_by_a_verdict(verdict: JobState) -> None:
    assert may_move(JobState.EXPIRED, verdict)


def test_what_holds_a_slot_is_live_and_begun() -> None:
    assert set(IN_FLIGHT) == LIVE - {JobState.QUEUED}
    assert set(AT_VENDOR) == set(IN_FLIGHT) - {JobState.SUBMITTING}


def test_who_chose_nothing_hears_exactly_the_ends() -> None:
    assert set(FINAL_EVENTS) == {"job.succeeded", "job.failed", "job.canceled", "job.expired"}
    assert set(FINAL_EVENTS) <= set(EventType)


def test_every_state_after_submitting_has_an_event() -> None:
    told = {state for state in JobState if f"job.{state}" in set(EventType)}
    assert told == set(JobState) - {JobState.QUEUED, JobState.SUBMITTING}
