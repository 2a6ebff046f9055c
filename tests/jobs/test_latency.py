"""Learned latencies against a brute force over the jobs themselves."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jobs.latency import BOUNDS, Latency, no_counts, observe, remaining
from orchestrator.jobs.query_economy import RELIABLE


def learned(ends: list[float], live: list[float] | None = None) -> Latency:
    counts, ages = no_counts(), no_counts()
    for end in ends:
        observe(counts, end, end)
    for age in live or []:
        observe(ages, age, age)
    return Latency(counts, ages if live else ())


def kaplan_meier(ends: list[float], live: list[float], at: float) -> float:
    """Return the share that has ended by a bound, job by job; one job more never ends."""
    left, at_risk = 1.0, len(ends) + len(live) + 1
    for bound_before, bound in zip((0.0, *BOUNDS), BOUNDS, strict=False):
        if bound > at:
            break
        ended = sum(bound_before < end <= bound for end in ends)
        left *= 1 - ended / at_risk
        at_risk -= ended + sum(bound_before < age <= bound for age in live)
    return 1 - left


_SECONDS = st.floats(0.1, 80_000)


@given(st.lists(_SECONDS, min_size=1, max_size=30), st.lists(_SECONDS, max_size=30))
def test_shares_at_bounds_are_those_of_the_jobs(ends: list[float], live: list[float]) -> None:
    found = learned(ends, live)
    for bound in BOUNDS[::7]:
        assert found.share(bound) == pytest.approx(kaplan_meier(ends, live, bound), abs=1e-9)


@given(st.lists(_SECONDS, min_size=1, max_size=50), st.floats(0.001, 0.999))
def test_a_quantile_is_where_the_share_is(ends: list[float], share: float) -> None:
    found = learned(ends)
    at = found.quantile(share)
    if at is None:
        assert found.share(1e9) < share
    else:
        assert found.share(at) == pytest.approx(share, abs=1e-6)


def test_a_latency_is_known_to_a_tenth() -> None:
    rng = random.Random(1)
    ends = sorted(60 * math.exp(0.6 * rng.gauss(0, 1)) for _ in range(5000))
    for share in (0.05, 0.5, 0.9, 0.95):
        assert learned(ends).quantile(share) == pytest.approx(ends[int(share * 5000)], rel=0.1)


def test_what_lies_beyond_everything_known_is_not_certain() -> None:
    found = learned([5.0] * 9)
    assert found.quantile(0.9) is not None
    assert found.quantile(0.95) is None
    assert found.known_quantile(0.95) == pytest.approx(5, rel=0.2)
    assert learned([]).known_quantile(0.5) is None


def test_the_fastest_of_many_live_jobs_do_not_pass_for_all() -> None:
    fastest = learned([10.0] * 20, live=[11.0] * 980)
    assert fastest.share(60) < 0.05
    # Young jobs say nothing about later times.
    assert learned([60.0] * 200, live=[1.0] * 140).share(100) > 0.99


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_a_job_that_a_query_found_is_spread_over_the_time_before(after: float, more: float) -> None:
    counts = no_counts()
    observe(counts, after, after + more)
    assert sum(counts) == pytest.approx(1)
    found = [n for n, count in enumerate(counts) if count > 1e-9]
    assert BOUNDS[found[-1]] >= min(after + more, BOUNDS[-1]) - 1e-6
    assert not found[0] or BOUNDS[found[0] - 1] <= after + more


def test_half_is_forgotten_in_a_day() -> None:
    assert remaining(1000, 86_400) == pytest.approx(0.5)
    assert remaining(1000, -5) == 1


def test_few_samples_are_kept_longer() -> None:
    assert remaining(20, 3600) * 20 >= RELIABLE
    samples = 0.0
    for _ in range(60):
        samples = samples * remaining(samples, 86_400) + 10
    assert samples > 1.5 * RELIABLE, "ten jobs a day are enough"
