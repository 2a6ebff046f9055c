"""Charts of an account: numbers from its newest finished jobs, and their drawings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.dashboard.charts import HEIGHT, WIDTH, Column, stacked
from orchestrator.dashboard.recent_jobs import SERIES, summed
from orchestrator.foundation.clock import rfc3339

BEGIN = datetime(2026, 11, 20, 10, tzinfo=UTC)


def job(
    end: float, took: float = 30, by: str = "push", status: str = "succeeded"
) -> dict[str, Any]:
    """Return a job that finished `end` seconds after the begin, `took` seconds after it began."""
    finished = BEGIN + timedelta(seconds=end)
    return {"status": status, "resolved_by": by, "finished_at": rfc3339(finished),
            "submitted_at": rfc3339(finished - timedelta(seconds=took))}  # fmt: skip


def test_of_nothing_there_is_nothing() -> None:
    found = summed([])
    assert (found.count, found.slots, found.latencies, found.quantiles) == (0, (), (), {})
    assert found.push_share == ""


def test_jobs_are_counted_by_who_reported_them_and_when() -> None:
    jobs = [job(0), job(59), job(130, by="poll"), job(131, by="clock", status="expired")]
    found = summed(jobs)
    assert found.reported == {"push": 2, "poll": 1, "other": 1}
    assert found.push_share == "66.7%"
    assert [dict(slot.counts) for slot in found.slots] == [{"push": 2}, {}, {"poll": 1, "other": 1}]
    assert [slot.label for slot in found.slots] == ["10:00", "10:01", "10:02"]
    assert found.slots[0].begin == "2026-11-20T10:00:00Z"


@pytest.mark.parametrize("days", [0.01, 0.5, 3, 40, 400, 4000])
def test_any_span_of_time_has_a_bounded_number_of_slots(days: float) -> None:
    found = summed([job(0), job(days * 86_400)])
    assert 1 <= len(found.slots) <= 24
    assert found.slots[-1].counts["push"] >= 1


def test_latencies_are_of_succeeded_jobs_in_groups_that_grow() -> None:
    jobs = [job(0, took) for took in (0, 0.1, 0.15, 0.9, 1, 4)] + [job(0, 9000, status="failed")]
    found = summed(jobs)
    assert [(one.begin, one.end, one.counts["push"]) for one in found.latencies] == [
        ("0 ms", "100 ms", 2), ("100 ms", "200 ms", 1), ("200 ms", "500 ms", 0),
        ("500 ms", "1.0 s", 2), ("1.0 s", "2.0 s", 0), ("2.0 s", "5.0 s", 1),
    ]  # fmt: skip
    assert found.quantiles == {"p50": 0.15, "p95": 4, "p99": 4}


def test_columns_are_stacked_and_stay_inside_of_the_drawing() -> None:
    columns = [Column(str(n), {"push": n, "poll": 1}) for n in range(20)]
    drawing = stacked(columns, SERIES)
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
    assert stacked([], SERIES).bars == ()
