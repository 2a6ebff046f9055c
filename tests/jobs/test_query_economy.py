"""When queries are due: against a brute force over jobs, and against the fixed policy."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from orchestrator.foundation.settings.accounts import Poll
from orchestrator.jobs.latency import Latency, no_counts, observe
from orchestrator.jobs.query_economy import (
    MISSED_IN_A_ROW,
    RELIABLE,
    STOPPED,
    Expectation,
    PushLoss,
    fixed_gap,
    fixed_queries,
)
from orchestrator.jobs.query_plan import plans

Draw = Callable[[random.Random], float]
POLL = Poll()
#: The rate of loss of an account of which much is known, at one lost push in a hundred.
LOSS = PushLoss(20, 1980).cautious


def log_normal(median: float, sigma: float = 0.6) -> Draw:
    return lambda rng: median * math.exp(sigma * rng.gauss(0, 1))


def bimodal(rng: random.Random) -> float:
    return (15 if rng.random() < 0.5 else 120) * math.exp(0.3 * rng.gauss(0, 1))


MIX: Sequence[Draw] = (log_normal(60), log_normal(20), bimodal)


def learned(draw: Draw, jobs: int = 2000) -> Latency:
    rng, counts = random.Random(1), no_counts()
    for _ in range(jobs):
        end = draw(rng)
        observe(counts, end, end)
    return Latency(counts)


def costs(
    draw: Draw, expected: Expectation | None, lost: float, jobs: int = 20_000
) -> tuple[float, list[float]]:
    """Return queries per job, and the delays of the lost pushes, sorted."""
    rng, queries, delays, known = random.Random(2), 0, list[float](), dict[float, float]()

    def following(age: float, asks: int) -> float:
        at = known.get(age)
        if at is None and expected is not None:
            at = known[age] = expected.next_query(age, POLL.max_interval) or -1
        if at is None or at < 0:
            return age + fixed_gap(POLL, asks - 1) if asks else POLL.first_after
        return at

    for _ in range(jobs):
        end, is_lost, age, asks = draw(rng), rng.random() < lost, 0.0, 0
        while (age := following(age, asks)) < end or is_lost:
            queries, asks = queries + 1, asks + 1
            if age >= end:
                delays.append(age - end)
                break
    return queries / jobs, sorted(delays)


def share(values: Sequence[float], of: float) -> float:
    return values[int(of * len(values))]


def test_with_few_losses_a_fifth_of_a_query_a_job_finds_them_within_82_seconds() -> None:
    queries, delays = costs(MIX[0], Expectation(learned(MIX[0]), LOSS, 0.1), 0.01, 40_000)
    assert queries <= 0.2
    assert share(delays, 0.5) <= 82
    mixed = [costs(draw, Expectation(learned(draw), LOSS, 0.1), 0.01) for draw in MIX]
    assert sum(queries for queries, _ in mixed) / 3 <= 0.2
    assert share(sorted(delay for _, delays in mixed for delay in delays), 0.5) <= 82


def test_without_any_push_everything_is_found_within_five_seconds() -> None:
    for draw in MIX:
        queries, delays = costs(draw, Expectation(learned(draw), STOPPED, 0.1), 1.0, 4000)
        assert len(delays) == 4000
        assert queries <= 6.5
        assert share(delays, 0.5) <= 5


def test_a_plan_keeps_the_delay_for_the_models_of_an_account_together() -> None:
    latencies = [learned(draw) for draw in MIX]
    found = [
        costs(draw, Expectation(latency, LOSS, 0.1, plan), 0.01)
        for draw, latency, plan in zip(MIX, latencies, plans(latencies, 20), strict=True)
    ]
    assert sum(queries for queries, _ in found) / 3 <= 1.5
    assert share(sorted(delay for _, delays in found for delay in delays), 0.95) <= 20


@pytest.mark.parametrize("lost", [0.01, 1.0])
@pytest.mark.parametrize("actual", [log_normal(120), bimodal, log_normal(20)])
def test_a_vendor_that_became_another_costs_no_more_than_fixed_queries(
    actual: Draw, lost: float
) -> None:
    loss = LOSS if lost < 0.5 else STOPPED
    queries, delays = costs(actual, Expectation(learned(log_normal(60)), loss, 0.1), lost, 4000)
    fixed, fixed_delays = costs(actual, None, lost, 4000)
    # Without pushes the adaptive policy asks more often by intent, and finds the ends sooner.
    assert queries <= 1.1 * fixed or share(delays, 0.5) < 0.6 * share(fixed_delays, 0.5)


def test_ten_completions_are_not_relied_on() -> None:
    assert learned(log_normal(60), 10).samples < RELIABLE
    few = Expectation(learned(log_normal(60), 10), PushLoss(0, 1000).cautious, 0.1)
    assert few.next_query(0, 120) is None, "the fixed policy decides"


def test_the_first_query_is_where_the_posterior_of_a_loss_is_sure() -> None:
    latency = learned(MIX[0])
    for sureness, loss in ((0.1, 0.01), (0.5, 0.05), (0.05, 0.3)):
        at = Expectation(latency, loss, sureness).next_query(0, 120)
        assert at is not None
        ended = latency.share(at)
        assert loss * ended / (1 - (1 - loss) * ended) == pytest.approx(sureness, abs=0.01)


def test_a_push_is_asked_for_in_the_end_however_rarely_one_is_lost() -> None:
    at = Expectation(learned(MIX[0]), 1e-9, 0.1).next_query(0, 120)
    assert at is not None
    assert learned(MIX[0]).share(at) == pytest.approx(0.99, abs=0.01)


def test_a_few_slow_jobs_of_a_model_do_not_put_off_the_first_query() -> None:
    def mixed(rng: random.Random) -> float:
        return rng.gauss(60, 5) if rng.random() < 0.7 else rng.gauss(3600, 300)

    at = Expectation(learned(mixed), LOSS, 0.1).next_query(0, 120)
    assert at is not None
    assert at < 300


@pytest.mark.parametrize("delay", [8, 20, 60])
def test_a_job_that_hangs_is_asked_about_ever_more_rarely(delay: float) -> None:
    latency = learned(MIX[0])
    (plan,) = plans([latency], delay)
    expected, age, queries = Expectation(latency, LOSS, 0.1, plan), 0.0, 0
    while age < 86_400:
        age, queries = expected.next_query(age, 120) or age + 120, queries + 1
    assert queries < 150


def test_queries_of_a_job_are_five_seconds_apart_at_least_and_never_stop() -> None:
    expected = Expectation(learned(log_normal(3)), STOPPED, 0.1)
    age = 0.0
    for _ in range(200):
        found = expected.next_query(age, 120)
        following = age + 120 if found is None else found
        assert age + 5 <= following <= age + max(120, age) + 5
        age = following


@pytest.mark.parametrize(
    ("lost", "pushed", "in_a_row"), [(0, 0, 3), (10, 990, 3), (300, 700, 8), (990, 10, 88)]
)
def test_as_many_misses_in_a_row_count_as_are_hardly_chance(
    lost: float, pushed: float, in_a_row: int
) -> None:
    assert PushLoss(lost, pushed).misses_in_a_row == pytest.approx(in_a_row, abs=1)
    assert PushLoss(lost, pushed).misses_in_a_row >= MISSED_IN_A_ROW
    assert min(PushLoss(lost, pushed).estimate, STOPPED) <= PushLoss(lost, pushed).cautious


def test_queries_of_the_fixed_policy_are_counted() -> None:
    assert [fixed_queries(POLL, age) for age in (0, 60, 61, 75, 76, 98)] == [0, 0, 1, 1, 2, 3]


def test_a_plan_postpones_no_query_for_longer_than_a_job_has_lived() -> None:
    """Nothing is expected between the usual latencies and that of one job that took an hour."""
    counts = no_counts()
    for end in (*[20.0] * 400, 3600.0):
        observe(counts, end, end)
    latency = Latency(counts)
    (plan,) = plans([latency], 20)
    expected = Expectation(latency, LOSS, 0.1, plan)
    assert plan.after(90) > 180
    assert expected.next_query(90, 40) == pytest.approx(180)
    assert expected.next_query(30, 40) == pytest.approx(70)
