"""The history of jobs: its buckets, and what it reads."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job, trace
from orchestrator.foundation.clock import EPOCH
from orchestrator.jobs import history
from orchestrator.jobs.history import Span
from orchestrator.jobs.totals import totals
from tests.database.test_listing import fill
from tests.harness.engine import at_vendor
from tests.harness.runtime import Harness


def test_a_span_of_any_length_has_at_most_49_buckets() -> None:
    for hours in (1, 3, 24, 25, 100, 168):
        span = Span.of(EPOCH + timedelta(days=20_000, seconds=1234), hours)
        assert len(span.starts) <= 49
        assert (span.until - span.starts[0]).total_seconds() >= hours * 3600
        assert span.starts[-1] <= span.until <= span.starts[-1] + timedelta(seconds=span.step)


async def test_statistics_read_indexes_and_few_rows(h: Harness) -> None:
    for table in (job, delivery):
        await h.runtime.store.write(fill, table, 3000)
    if h.runtime.store.shared:
        await h.run(sa.text("ANALYZE"))
    plans: list[str] = []

    def explained(tx: Tx) -> None:
        def explain(_c: Any, cursor: Any, text: str, parameters: Any, *_: Any) -> None:
            how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "
            cursor.execute(how + text, parameters)
            if "WHERE" in text:
                plans.append("\n".join(str(line[-1]) for line in cursor.fetchall()))

        sa.event.listen(tx, "before_cursor_execute", explain)
        now = h.clock.now()
        try:
            for account in ("main", None):
                history.buckets(tx, account, Span.of(now, 24), set())
                history.latency(tx, account)
            totals(tx, now)
        finally:
            sa.event.remove(tx, "before_cursor_execute", explain)

    await h.runtime.store.read(explained)
    for plan in plans:
        rows = re.findall(r"(?m)Seq Scan on (?:job|delivery)\b|SCAN (?:job|delivery)$", plan)
        assert not rows, plan
    assert sum("ix_job_account" in plan for plan in plans) >= 2
    assert any("ix_job_state" in plan for plan in plans)
    assert any("ix_delivery_state" in plan for plan in plans)


async def test_a_burst_of_jobs_is_counted_and_not_multiplied(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "ROWS", 100)
    for _ in range(5):
        await at_vendor(h)
    h.clock.advance(600)
    await at_vendor(h)

    async def submitted(account: str | None) -> tuple[int, int]:
        span = Span.of(h.clock.now(), 24)
        found = await h.runtime.store.read(history.buckets, account, span, set())
        states = sum(bucket.states["submitted"] for bucket in found)
        return sum(bucket.submitted for bucket in found), states

    assert await submitted("main") == (6, 6)
    assert await submitted(None) == (6, 6)
    monkeypatch.setattr(history, "COUNTED", 3)
    assert (await submitted("main"))[0] >= 6


async def test_the_status_queries_of_few_jobs_are_those_of_all_of_them(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def polls(queried: int) -> list[int]:
        monkeypatch.setattr(history, "_QUERIED", queried)
        span = Span.of(h.clock.now(), 24)
        found = await h.runtime.store.read(history.buckets, None, span, set())
        return [bucket.polls for bucket in found if bucket.submitted]

    for asked in (0, 0, 0, 6):
        made = await at_vendor(h)
        for _ in range(asked):
            at = {"job_id": made["id"], "at": h.clock.now(), "kind": "poll", "detail": {}}
            await h.run(sa.insert(trace).values(at))
    h.clock.advance(3600)
    await at_vendor(h)
    assert await polls(400) == [6, 0]
    # Every third job: the fourth is one of them, the fifth is not and has their mean.
    assert await polls(2) == [12, 3]
