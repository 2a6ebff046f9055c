"""What the API's history of an account, or of all, shows in charts: who reported results, and
how long jobs take. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.dashboard import formats
from orchestrator.dashboard.charts import Chart, Column, stacked
from orchestrator.foundation.durations import span

Json = dict[str, Any]

#: Who reported the result of a job; `other` is a deadline, an operator or the submission itself.
REPORTS = ("push", "poll", "other")
#: Further columns of the table beside that chart.
FURTHER = ("submitted", "missed", "polls")
LATENCIES = ("jobs",)
#: The hours that a page offers.
HOURS = (6, 24, 168)
_ENDED = ("succeeded", "failed", "canceled", "expired")
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that were created in a slot of time, or took a similar time.

    `begin` is an instant (RFC 3339), or both bounds in words.
    """

    begin: str
    label: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class History:
    """Groups of jobs, and figures of all of them; a figure without jobs is empty or None."""

    slots: tuple[Group, ...]
    latencies: tuple[Group, ...]
    quantiles: Mapping[str, float]
    samples: int
    ended: int
    missed: int
    push_share: str
    polls_per_job: float | None
    estimated: bool

    @property
    def slot_chart(self) -> Chart:
        """The drawing of `slots`."""
        return _drawn(self.slots, REPORTS)

    @property
    def latency_chart(self) -> Chart:
        """The drawing of `latencies`."""
        return _drawn(self.latencies, LATENCIES)


def read(document: Json) -> History:
    """Return what a history of the API shows."""
    totals, latency = _counts(document["totals"]), document["latency"]
    spans_days = len(document["buckets"]) * document["bucket_seconds"] > _DAY
    ended = sum(totals[name] for name in REPORTS)
    return History(
        slots=tuple(_slot(bucket, spans_days) for bucket in document["buckets"]),
        latencies=tuple(_latencies(latency["counts"])),
        quantiles={name: latency[name] for name in ("p50", "p95", "p99") if latency["samples"]},
        samples=latency["samples"],
        ended=ended,
        missed=totals["missed"],
        push_share=formats.share(totals["push"], totals["push"] + totals["poll"]),
        polls_per_job=round(totals["polls"] / ended, 1) if ended else None,
        estimated=any(bucket["estimated"] for bucket in document["buckets"]),
    )


def _drawn(groups: Sequence[Group], series: Sequence[str]) -> Chart:
    return stacked([Column(group.label, group.counts) for group in groups], series)


def _counts(bucket: Json) -> dict[str, int]:
    push, poll = bucket["by_push"], bucket["by_poll"]
    # Of an estimated bucket each count is estimated for itself.
    other = max(0, sum(bucket[name] for name in _ENDED) - push - poll)
    further = {name: bucket[name] for name in FURTHER}
    return {"push": push, "poll": poll, "other": other, **further}


def _slot(bucket: Json, spans_days: bool) -> Group:
    begin = datetime.fromisoformat(bucket["at"])
    label = f"{begin:%m-%d %H:%M}" if spans_days else f"{begin:%H:%M}"
    return Group(bucket["at"], label, _counts(bucket))


def _latencies(counts: Sequence[Json]) -> list[Group]:
    """Return the groups from the fastest job to the slowest."""
    filled = [number for number, one in enumerate(counts) if one["count"]]
    if not filled:
        return []
    bounds = [0.0, *(one["le"] for one in counts)]
    return [
        _latency(bounds[number], bounds[number + 1], counts[number]["count"])
        for number in range(filled[0], filled[-1] + 1)
    ]


def _latency(low: float, high: float | None, count: int) -> Group:
    if high is None:
        return Group(f"> {span(low)}", f"> {span(low)}", {"jobs": count})
    words = f"{span(low)} \u2013 {span(high)}"
    return Group(words, f"\u2264 {span(high)}", {"jobs": count})
