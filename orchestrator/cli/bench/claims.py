"""The cost of a claim: next to few rows due tomorrow, to many of them, and to a hot lane."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench.measurement import Figure, Plan, Result, Sample, latencies
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.seed import CLOCK, DAY, N, chunks, text
from orchestrator.database import queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import DeliveryState, JobState

#: Rows due tomorrow, at first and in the end; rows of the hot lane, due now.
FEW, MANY, HOT = 1_000, 100_000, 100_000
Claim = Callable[[Tx, datetime], list[Any]]


def _claim_jobs(tx: Tx, now: datetime) -> list[Any]:
    lanes = queue.lanes(tx, job.c.account, now, JobState.QUEUED)
    return queue.take_jobs(tx, JobState.QUEUED, dict.fromkeys(lanes, queue.QUANTUM), now, 75.0, 64)


def _claim_deliveries(tx: Tx, now: datetime) -> list[Any]:
    lanes = queue.lanes(tx, delivery.c.subscriber_id, now)
    return queue.take_deliveries(tx, dict.fromkeys(lanes, queue.QUANTUM), now, 45.0, 64)


_CLAIMS: dict[str, Claim] = {"jobs": _claim_jobs, "deliveries": _claim_deliveries}


def bench(plan: Plan) -> Result:
    """Measure claims of jobs and of deliveries. Each is rolled back, so that all find the same."""
    many, now = plan.jobs or MANY, CLOCK.now()
    hot = min(HOT, many)
    samples: dict[str, dict[str, list[Sample]]] = {kind: {} for kind in _CLAIMS}
    plans: dict[str, list[str]] = {}
    with scratch_database(plan) as database, database.writing(durable=True) as engine:
        # A batch to claim, in ten quiet lanes.
        _insert(engine, "003", 64, text("quiet", N % 10), now)
        for era, (name, rows) in enumerate({"few": FEW, "many": many - FEW, "hot": hot}.items()):
            due = "due now in one lane" if name == "hot" else "due tomorrow"
            plan.notify(f"claims: {max(0, rows):,} rows more, {due}")
            lane = sa.literal("hot") if name == "hot" else text("later", N % 100)
            _insert(engine, f"{era:03}", rows, lane, now if name == "hot" else after(now, DAY))
            for kind, claim in _CLAIMS.items():
                samples[kind][name] = [_measure(engine, plan, claim) for _ in range(plan.rounds)]
                plans[f"{name}.{kind}"] = _query_plan(engine, claim)
    figures: list[Figure] = []
    for kind, found in samples.items():
        limits = {"few rows due tomorrow": found["few"]}
        for name, rounds in found.items():
            compared = {} if name == "few" else limits
            figures += latencies(rounds, compared, (0.5, 0.99), f"{kind}_{{}}_ms_{name}")
    every = [each for kinds in samples.values() for rounds in kinds.values() for each in rounds]
    more = {"few": FEW, "many": many, "hot": hot, "plans": plans}
    return Result("claims", every, figures, more)


def _measure(engine: sa.Engine, plan: Plan, claim: Claim) -> Sample:
    """Claim for half the plan's seconds."""
    spent, now = list[float](), CLOCK.now()
    until = time.perf_counter() + plan.seconds / 2
    with engine.begin() as tx:
        while time.perf_counter() < until and len(spent) < 100_000:
            with tx.begin_nested() as savepoint:
                started = time.perf_counter()
                claim(tx, now)
                spent.append(time.perf_counter() - started)
                savepoint.rollback()
    return Sample(len(spent), latencies=spent)


def _query_plan(engine: sa.Engine, claim: Claim) -> list[str]:
    """Return the lines of EXPLAIN that say how a claim reads our tables."""
    lines: set[str] = set()
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "

    def before(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if statement.startswith(("SELECT", "WITH", "UPDATE")):
            cursor.execute(explain + statement, parameters)
            lines.update(str(row[-1]).strip().partition("  (")[0] for row in cursor.fetchall())

    with engine.connect() as tx, tx.begin() as transaction:
        sa.event.listen(tx, "before_cursor_execute", before)
        claim(tx, CLOCK.now())
        transaction.rollback()
    return sorted(
        line for line in lines if "ix_" in line or "Seq Scan" in line or line.startswith("SCAN job")
    )


def _insert(
    engine: sa.Engine, era: str, count: int, lane: sa.ColumnElement[str], due: datetime
) -> None:
    """Insert queued jobs and pending deliveries."""
    queued = {"state": JobState.QUEUED, "attempt": 0, "submitted_at": None, "vendor_task_id": None}
    for chunk in chunks(engine, era, count):
        chunk.jobs(1, **queued, account=lane, due_at=due)
        chunk.deliveries(lane, state=DeliveryState.PENDING, due_at=due)
