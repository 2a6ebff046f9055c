"""Charts of a history: numbers from the API's document, and their drawings."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.dashboard.charts import HEIGHT, WIDTH, Column, stacked
from orchestrator.dashboard.histories import REPORTS, read
from orchestrator.schemas.stats import ACCOUNT_HISTORY_EXAMPLE

Json = dict[str, Any]
EXAMPLE = ACCOUNT_HISTORY_EXAMPLE


def test_a_history_says_who_reported_results_and_how_many_queries_a_job_took() -> None:
    found = read(EXAMPLE)
    assert (found.ended, found.missed, found.samples) == (119, 2, 117)
    assert found.push_share == "98.3%"
    assert found.polls_per_job == 0.0
    assert found.quantiles == {"p50": 84.2, "p95": 131.0, "p99": 190.5}
    (slot,) = found.slots
    assert {name: slot.counts[name] for name in REPORTS} == {"push": 117, "poll": 2, "other": 0}


def test_of_nothing_there_is_nothing() -> None:
    counts = dict.fromkeys(EXAMPLE["totals"], 0)
    latency = {**EXAMPLE["latency"], "samples": 0, "p50": None, "p95": None, "p99": None}
    latency["counts"] = [{"le": 1.0, "count": 0}, {"le": None, "count": 0}]
    found = read({**EXAMPLE, "totals": counts, "buckets": [], "latency": latency})
    assert (found.ended, found.push_share, found.polls_per_job) == (0, "", None)
    assert (found.latencies, found.quantiles, found.slot_chart.bars) == ((), {}, ())


def test_latencies_are_shown_from_the_fastest_job_to_the_slowest() -> None:
    bounds = (0.5, 1.0, 2.0, 5.0, None)
    counts = [{"le": le, "count": count} for le, count in zip(bounds, (0, 3, 0, 1, 0), strict=True)]
    latency = {**EXAMPLE["latency"], "counts": counts}
    found = read({**EXAMPLE, "latency": latency})
    assert [(one.begin, one.counts["jobs"]) for one in found.latencies] == [
        ("500 ms – 1.0 s", 3), ("1.0 s – 2.0 s", 0), ("2.0 s – 5.0 s", 1)
    ]  # fmt: skip
    counts[-1]["count"] = 1
    assert read({**EXAMPLE, "latency": latency}).latencies[-1].begin == "> 5.0 s"


def test_columns_are_stacked_and_stay_inside_of_the_drawing() -> None:
    columns = [Column(str(n), {"push": n, "poll": 1, "submitted": 999}) for n in range(20)]
    drawing = stacked(columns, REPORTS)
    assert drawing.most == 20
    assert len(drawing.bars) == 39  # the first has no push
    assert len(drawing.labels) <= 8
    for bar in drawing.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH
        assert bar.y >= -0.1
        assert bar.y + bar.height <= HEIGHT + 0.1
    push, poll = drawing.bars[-2:]
    assert poll.y + poll.height == pytest.approx(push.y, abs=0.2)
    assert stacked([], REPORTS).bars == ()
