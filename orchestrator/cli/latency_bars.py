"""How long the jobs of an account take: a line of bars for each model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.cli.terminal import counted, one_line, span
from orchestrator.schemas import Account, LatencyCount

#: The bars of a histogram by height, how many there are at most, and the ratio of two bounds.
_BARS, _WIDTH, _RATIO = "▁▂▃▄▅▆▇█", 32, 1.19


def histograms(account: Account) -> list[str]:
    """Return a line for each model: how long its jobs take, as bars over a logarithmic axis."""
    wide = max(map(len, account.latency))
    return [
        f"{one_line(model):{wide}}  p50 {_seconds(found.p50)}  p95 {_seconds(found.p95)}  "
        f"p99 {_seconds(found.p99)}  {counted(found.samples, 'job')}  {_bars(found.counts)}"
        for model, found in sorted(account.latency.items())
        if found.counts
    ]


def _bars(counts: Sequence[LatencyCount]) -> str:
    bounds = [one.le or math.inf for one in counts]
    low, high = math.log(bounds[0]), math.log(bounds[-1])
    step = max((high - low) / (_WIDTH - 1), math.log(_RATIO))
    heights = [0] * (round((high - low) / step) + 1)
    for one, bound in zip(counts, bounds, strict=True):
        heights[round((math.log(bound) - low) / step)] += one.count
    top = max(heights) or 1
    bars = "".join(_BARS[min(7, height * 8 // top)] if height else " " for height in heights)
    return f"{span(bounds[0])} {bars} {span(bounds[-1])}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else span(value)
