"""What status queries cost and find, over the whole product in virtual time."""

from __future__ import annotations

import pytest

from tests.simulate.economy import MIX, Scenario, log_normal, run

#: Thousands of whole jobs each: a minute on a quiet machine.
pytestmark = [pytest.mark.proof, pytest.mark.timeout(400)]
ONE = {"m60": log_normal(60)}


def test_where_few_pushes_are_lost_a_fifth_of_a_query_a_job_finds_them() -> None:
    found = run(Scenario(ONE, jobs=2500, lost=0.01))
    assert found.per_job <= 0.2
    assert found.delay(0.5) <= 82
    assert len(found.delays) > 15


def test_where_no_push_arrives_every_end_is_found_within_five_seconds() -> None:
    found = run(Scenario(ONE, jobs=800, lost=1.0))
    assert len(found.delays) == 800
    assert found.per_job <= 6.5
    assert found.delay(0.5) <= 5


def test_a_delay_is_kept_over_a_mix_of_models() -> None:
    found = run(Scenario(MIX, jobs=3000, lost=0.02, poll={"max_missed_delay": 20}))
    assert found.per_job <= 1.5
    assert found.delay(0.95) <= 20
    assert len(found.delays) > 40


@pytest.mark.parametrize("lost", [0.01, 1.0])
def test_a_vendor_whose_latency_doubles_costs_no_more_than_fixed_intervals(lost: float) -> None:
    slow = Scenario(ONE, jobs=500, lost=lost, later={"m60": log_normal(120)})
    fixed = Scenario(ONE, jobs=500, lost=lost, later=slow.later, poll={"policy": "fixed"})
    ours, theirs = run(slow), run(fixed)
    if lost == 1.0:
        assert ours.delay(0.5) <= 1.1 * theirs.delay(0.5)
    else:
        assert ours.per_job <= 1.1 * theirs.per_job
