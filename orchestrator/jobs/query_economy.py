"""When a status query is worth its cost: as late as a push may come, as soon as it may be lost.

A query is wasted unless the push of a job that has ended was lost. So it waits until that is likely
enough (`sureness`), given how long such jobs take and how often pushes are lost, and until it saves
enough delay if the push is lost. Both follow from one distribution, for every rate of loss: with
few losses a query is rare, and where no push arrives the same rules ask at the pace of completions.
Source: J. B. Keller, "Optimum Checking Schedules for Systems Subject to Random Failure" (1974).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

from orchestrator.foundation.clock import backoff
from orchestrator.foundation.settings.accounts import Poll
from orchestrator.jobs.latency import BOUNDS, Latency
from orchestrator.jobs.query_plan import QueryPlan

#: Completions of an account, model and capability from which on they are relied on: twenty, of
#: which a little has faded.
RELIABLE = 19.5
#: Seconds of delay, times two, that a query is expected to save if the push is lost, at least.
_PRICE = 1.4
#: Seconds between two queries of a job, at least.
_LEAST = 5.0
#: The first query does not wait longer than so many times the median, nor a later one than the age.
_MOST_MEDIANS = 4.0
#: The share of jobs beyond which a query does not wait, however rarely pushes are lost.
_LATEST = 0.99
#: The rate of loss while an account's pushes have stopped, and where a vendor pushes nothing.
STOPPED, NO_PUSHES = 0.9, 1.0
#: Losses and pushes that are assumed of an account before any are known.
_PRIOR_LOST, _PRIOR_PUSHED = 0.5, 25.0
#: Completions beyond which the rate of loss is not better known: it changes from day to day.
_MOST_KNOWN = 1000.0
#: Standard deviations by which it may well be higher than estimated.
_DEVIATIONS = 2.0
#: The probability of so many losses in a row by chance, below which pushes count as stopped.
_BY_CHANCE = 1e-4
#: Completions in a row without a push that show, at the least, that pushes have stopped.
MISSED_IN_A_ROW = 3


class PushLoss(NamedTuple):
    """Completions of an account whose push was lost, and those that were pushed."""

    lost: float = 0.0
    pushed: float = 0.0

    @property
    def estimate(self) -> float:
        """The share of pushes that are lost, as far as is known."""
        return (self.lost + _PRIOR_LOST) / self._known

    @property
    def cautious(self) -> float:
        """The most that it may well be: the less is known, the sooner it is asked."""
        mean = self.estimate
        deviation = math.sqrt(mean * (1 - mean) / min(self._known, _MOST_KNOWN))
        return min(STOPPED, mean + _DEVIATIONS * deviation)

    @property
    def misses_in_a_row(self) -> int:
        """Completions in a row without a push that show that pushes have stopped."""
        chance = min(self.estimate, STOPPED)
        return max(MISSED_IN_A_ROW, math.ceil(math.log(_BY_CHANCE) / math.log(chance)))

    def before(self, silent: int) -> PushLoss:
        """Return the losses without the last ones, which are judged by them."""
        return PushLoss(max(0.0, self.lost - silent), self.pushed)

    @property
    def _known(self) -> float:
        return self.lost + self.pushed + _PRIOR_LOST + _PRIOR_PUSHED


class Expectation(NamedTuple):
    """What is expected of a job: how long it takes, and how likely its push is lost."""

    latency: Latency
    loss: float
    sureness: float
    #: The plan that keeps `max_missed_delay`, if there is one.
    plan: QueryPlan | None = None

    def next_query(self, age: float, max_interval: float) -> float | None:
        """Return the age at which a job that lives at `age` is asked about; None: not known.

        Ages are seconds since the submission.
        """
        found = self._economical(age)
        if self.plan is not None:
            planned = self.plan.after(age)
            found = planned if found is None else min(found, planned)
        if found is None:
            return None
        # However rare a loss, however long some jobs take, and beyond what a plan covers.
        usual = _MOST_MEDIANS * (self.latency.known_quantile(0.5) or 0.0)
        return max(min(found, age + max(max_interval, age or usual)), age + _LEAST)

    def _economical(self, age: float) -> float | None:
        ended = self.latency.share(age)
        live = 1 - ended
        # The share of live jobs that must have ended for the posterior of a loss to be `sureness`.
        sure = self.sureness / (self.loss + self.sureness * (1 - self.loss))
        likely = self.latency.quantile(ended + min(sure, _LATEST) * live)
        if likely is None:
            return None
        return max(likely, self._worthwhile(age, ended, live))

    def _worthwhile(self, age: float, ended: float, live: float) -> float:
        """Return the age by which the expected delay of a lost push has grown to the price."""
        wanted = _PRICE * live

        def has_grown(to: float) -> bool:
            return (to - age) * (self.latency.share(to) - ended) >= wanted

        later = BOUNDS[bisect_right(BOUNDS, age) :]
        high = next((bound for bound in later if has_grown(bound)), age)
        low = max(age, *(bound for bound in (0.0, *BOUNDS) if bound < high)) if high > age else age
        for _ in range(8):
            middle = (low + high) / 2
            low, high = (low, middle) if has_grown(middle) else (middle, high)
        return high


def fixed_gap(poll: Poll, asks: int) -> float:
    """Return the seconds until the next query of the fixed policy, after so many queries."""
    return backoff(poll.interval, asks, factor=1.5, most=poll.max_interval)


def fixed_queries(poll: Poll, age: float) -> int:
    """Return how many queries the fixed policy sends about a job that ends at an age."""
    asks, at = 0, poll.first_after
    while at < age and asks < 1000:
        at += fixed_gap(poll, asks)
        asks += 1
    return asks
