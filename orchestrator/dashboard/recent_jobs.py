"""What the newest finished jobs show: who reported them, when, and how soon.

Pure functions from the API's list of jobs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.dashboard import formats
from orchestrator.dashboard.charts import Chart, Column, stacked

Json = dict[str, Any]

#: Who reported the result of a job, as charts show it; `other` is a clock, an operator, ...
SERIES = ("push", "poll", "other")
#: The statuses of jobs that are finished, and how many of them are read.
FINISHED, SAMPLE = "succeeded,failed,expired,canceled", 200
#: Lengths of a slot of time in seconds, and how many slots there are at most.
_STEPS = (60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
_MOST_SLOTS = 24
#: The least bound of a latency, in seconds, and the mantissas of the others.
_LEAST, _MANTISSAS = 0.1, (1, 2, 5)
_QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that finished in a slot of time, or took a similar time.

    `begin` and `end` are instants (RFC 3339) or lengths of time, in words.
    """

    begin: str
    end: str
    label: str
    counts: Counter[str]


@dataclass(frozen=True, slots=True)
class Recent:
    """`slots` by the time at which jobs finished, `latencies` by the seconds that they took.

    Latencies are those of succeeded jobs, from the vendor's acceptance to its report.
    """

    count: int
    reported: Counter[str]
    slots: tuple[Group, ...]
    latencies: tuple[Group, ...]
    quantiles: dict[str, float]

    @property
    def push_share(self) -> str:
        """The share of results that a push reported first, of those that a vendor reported."""
        return formats.share(self.reported["push"], self.reported["push"] + self.reported["poll"])

    @property
    def slot_chart(self) -> Chart:
        """The drawing of `slots`."""
        return _drawn(self.slots)

    @property
    def latency_chart(self) -> Chart:
        """The drawing of `latencies`."""
        return _drawn(self.latencies)


def _drawn(groups: Sequence[Group]) -> Chart:
    return stacked([Column(group.label, group.counts) for group in groups], SERIES)


def summed(jobs: Iterable[Json]) -> Recent:
    """Return what finished jobs show."""
    finished = [job for job in jobs if job["finished_at"]]
    took = [
        (_took(job), _series(job))
        for job in finished
        if job["status"] == "succeeded" and job["submitted_at"]
    ]
    return Recent(
        count=len(finished),
        reported=Counter(map(_series, finished)),
        slots=tuple(_slots([(_at(job["finished_at"]), _series(job)) for job in finished])),
        latencies=tuple(_latencies(took)),
        quantiles=_quantiles(sorted(seconds for seconds, _ in took)),
    )


def _series(job: Json) -> str:
    source = job["resolved_by"]
    return source if source in SERIES else "other"


def _took(job: Json) -> float:
    took = _at(job["finished_at"]) - _at(job["submitted_at"])
    return max(0.0, took.total_seconds())


def _slots(ends: Sequence[tuple[datetime, str]]) -> Iterator[Group]:
    """Yield slots of equal length, oldest first, those without a job too."""
    if not ends:
        return
    seconds = [int(at.timestamp()) for at, _ in ends]
    first, last = min(seconds), max(seconds)
    step = next((one for one in _STEPS if (last - first) // one < _MOST_SLOTS - 1), _STEPS[-1])
    counts: dict[int, Counter[str]] = {}
    for second, (_, series) in zip(seconds, ends, strict=True):
        counts.setdefault(second // step, Counter())[series] += 1
    # Jobs may be years apart: then only the newest slots are shown.
    newest = last // step
    for number in range(max(first // step, newest - _MOST_SLOTS + 1), newest + 1):
        begin, end = (datetime.fromtimestamp(one * step, UTC) for one in (number, number + 1))
        label = f"{begin:%H:%M}" if step < _STEPS[5] else f"{begin:%m-%d}"
        yield Group(_text(begin), _text(end), label, counts.get(number, Counter()))


def _latencies(took: Sequence[tuple[float, str]]) -> Iterator[Group]:
    """Yield groups with bounds 1, 2, 5, 10, 20, ... from the fastest job to the slowest."""
    if not took:
        return
    counts: dict[int, Counter[str]] = {}
    for seconds, series in took:
        counts.setdefault(_bound_above(seconds), Counter())[series] += 1
    for number in range(min(counts), max(counts) + 1):
        low = formats.span(_bound(number - 1)) if number else formats.span(0)
        high = formats.span(_bound(number))
        yield Group(low, high, f"\u2264 {high}", counts.get(number, Counter()))


def _bound(number: int) -> float:
    tens, rest = divmod(number, len(_MANTISSAS))
    return float(_LEAST * 10**tens * _MANTISSAS[rest])


def _bound_above(seconds: float) -> int:
    """Return the number of the least bound that is not below a latency."""
    number = 0
    while _bound(number) < seconds - 1e-9:
        number += 1
    return number


def _quantiles(took: Sequence[float]) -> dict[str, float]:
    """Return the latencies below which 50, 95 and 99 percent of jobs are (nearest rank)."""
    return {
        f"p{quantile * 100:.0f}": took[max(0, math.ceil(quantile * len(took)) - 1)]
        for quantile in _QUANTILES
        if took
    }


def _at(instant: str) -> datetime:
    return datetime.fromisoformat(instant)


def _text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
