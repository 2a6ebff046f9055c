"""Plans of status queries that find most lost pushes within a given delay, with few queries.

An inspection problem: each query costs one, and a job that ended so long before the next query that
it is found late costs a price. The cheapest plan follows from the last age to the first (dynamic
programming), and the price is raised until few enough jobs are found late. Prior art: Barlow,
Hunter and Proschan, "Optimum Checking Procedures" (1963).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.jobs.latency import Latency

#: The share of lost pushes that may be found late: less than a twentieth, since ticks are coarse.
_LATE = 0.035
#: What finding a job late may cost, in queries.
_PRICES = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 17.0, 21.0, 30.0, 60.0)
#: Ages in a delay, and ages of a plan at most.
_PARTS, _MOST_AGES = 8, 1200
#: The share of jobs whose latency a plan covers.
_COVERED = 0.998
#: Gaps that are considered, in parts of a delay.
_GAPS = (1, 2, 4, 6, *range(8, 21), 22, 26, 29, 32, 37, 42, 48, 56, 64, 74, 85, 98)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """At which age the next query is due, by the age at which a job is known to live.

    `late` is the share of lost pushes that are found late.
    """

    step: float
    following: Sequence[int]
    late: float

    def after(self, age: float) -> float:
        """Return the age of the next query of a job that lives at this age."""
        place = int(age / self.step)
        if place >= len(self.following):
            # It takes longer than any known: the older, the less a query finds.
            return age + max(self.step * _PARTS, age / _PARTS)
        return max(self.following[place] * self.step, age + self.step)


def plans(latencies: Sequence[Latency], delay: float) -> list[QueryPlan]:
    """Return a plan for each of an account's latencies: all together keep the delay.

    One price for all, so a query is spent where it prevents most delays.
    """
    weights = [latency.samples for latency in latencies]
    found: list[QueryPlan] = []
    for price in _PRICES:
        found = [_plan(latency, delay, price) for latency in latencies]
        late = sum(one.late * weight for one, weight in zip(found, weights, strict=True))
        if late <= _LATE * sum(weights):
            break
    return found


def _plan(latency: Latency, delay: float, price: float) -> QueryPlan:
    """Return the plan with the least cost of queries, and of jobs that are found late."""
    top = (latency.quantile(_COVERED) or latency.known_quantile(1.0) or 0.0) + 2 * delay
    step = max(delay / _PARTS, top / _MOST_AGES)
    count, late_after = int(top / step) + 1, max(1, round(delay / step))
    shares = [latency.share(place * step) for place in range(count + 1)]
    costs, following = [0.0] * (count + 1), [count] * count
    for place in range(count - 1, -1, -1):
        ahead = _GAPS[: bisect_right(_GAPS, count - place)]
        costs[place], following[place] = min(
            (1 - shares[to] + price * _late(shares, place, to, late_after) + costs[to], to)
            for to in (place + gap for gap in ahead)
        )
    place, late = 0, 0.0
    while place < count:
        late += _late(shares, place, following[place], late_after)
        place = following[place]
    return QueryPlan(step, following, late)


def _late(shares: Sequence[float], place: int, to: int, late_after: int) -> float:
    """Return the share of jobs that end between two queries, and too long before the second."""
    return max(0.0, shares[max(0, to - late_after)] - shares[place])
