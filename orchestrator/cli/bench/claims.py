"""What a claim costs: with a thousand rows due tomorrow, with many more of them, and beside one lane that is hot."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench import seeding
from orchestrator.cli.bench.figures import Figure, Limit, quantile
from orchestrator.cli.bench.figures import Result as Found
from orchestrator.cli.bench.place import place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.series import N, chunks, fill, ids, text
from orchestrator.database import queue
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job
from orchestrator.foundation.clock import SystemClock, after
from orchestrator.foundation.states import DeliveryState, JobState

#: Rows due tomorrow, at first and in the end; rows of the hot lane, due now. Others have few rows, due now.
FEW, MANY, HOT = 1_000, 100_000, 100_000
_LANES = 100
_RIPE = 64
_DAY = 86400.0
_MOST = 100_000
Claim = Callable[[Tx, datetime], list[Any]]


def bench(plan: Plan) -> Found:
    """Measure claims of jobs and of deliveries, each taken back so that all find the same."""
    many = plan.jobs or MANY
    hot = min(HOT, many)
    now = SystemClock().now()
    spent: dict[str, dict[str, list[list[float]]]] = {}
    plans: dict[str, list[str]] = {}
    with place(plan) as here, here.writing(durable=True) as engine:
        _ripe(engine, now)
        for name, rows in (("few", FEW), ("many", max(0, many - FEW)), ("hot", hot)):
            plan.tell(
                f"claims: {rows:,} rows more, {'due now in one lane' if name == 'hot' else 'due tomorrow'}"
            )
            _fill(engine, name, rows, now)
            spent[name] = {
                kind: _rounds(engine, plan, claim, now) for kind, claim in _CLAIMS.items()
            }
            plans |= {
                f"{name}.{kind}": _plan(engine, claim, now) for kind, claim in _CLAIMS.items()
            }
    figures = [
        figure
        for kind in _CLAIMS
        for share in (0.5, 0.99)
        for figure in _figures(spent, kind, share)
    ]
    count = sum(len(one) for kinds in spent.values() for rounds in kinds.values() for one in rounds)
    return Found(
        "claims", count, figures, more={"few": FEW, "many": many, "hot": hot, "plans": plans}
    )


def _figures(
    spent: dict[str, dict[str, list[list[float]]]], kind: str, share: float
) -> list[Figure]:
    """Return a quantile with few rows, and beside it the same with many, and with a hot lane besides."""
    times = {
        name: [1000 * quantile(one, share) for one in kinds[kind]] for name, kinds in spent.items()
    }
    beside = [Limit("few rows due tomorrow", times["few"])]
    return [
        Figure(f"{kind}_p{round(100 * share)}_ms_{name}", rounds, [] if name == "few" else beside)
        for name, rounds in times.items()
    ]


def _rounds(engine: sa.Engine, plan: Plan, claim: Claim, now: datetime) -> list[list[float]]:
    """Return the seconds of each claim, in so many rounds that share the plan's time."""
    rounds = []
    for _ in range(plan.rounds):
        with engine.begin() as tx:
            rounds.append(_timed(tx, claim, now, plan.seconds / 2))
    return rounds


def _timed(tx: Tx, claim: Claim, now: datetime, seconds: float) -> list[float]:
    spent, until = list[float](), time.perf_counter() + seconds
    while time.perf_counter() < until and len(spent) < _MOST:
        with tx.begin_nested() as undo:
            started = time.perf_counter()
            claim(tx, now)
            spent.append(time.perf_counter() - started)
            undo.rollback()
    return spent


def _jobs(tx: Tx, now: datetime) -> list[Any]:
    lanes = queue.lanes(tx, job.c.account, now, JobState.QUEUED)
    return queue.take_jobs(tx, JobState.QUEUED, dict.fromkeys(lanes, queue.QUANTUM), now, 75.0, 64)


def _deliveries(tx: Tx, now: datetime) -> list[Any]:
    lanes = queue.lanes(tx, delivery.c.subscriber_id, now)
    return queue.take_deliveries(tx, dict.fromkeys(lanes, queue.QUANTUM), now, 45.0, 64)


_CLAIMS: dict[str, Claim] = {"jobs": _jobs, "deliveries": _deliveries}


def _plan(engine: sa.Engine, claim: Claim, now: datetime) -> list[str]:
    """Return how the database reads our tables for a claim."""
    found: list[str] = []
    how = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if statement.startswith(("SELECT", "WITH", "UPDATE")):
            cursor.execute(how + statement, parameters)
            found.extend(str(row[-1]).strip().partition("  (")[0] for row in cursor.fetchall())

    with engine.connect() as tx, tx.begin() as undo:
        sa.event.listen(tx, "before_cursor_execute", explain)
        claim(tx, now)
        undo.rollback()
    return sorted(
        {
            line
            for line in found
            if "ix_" in line or "Seq Scan" in line or line.startswith("SCAN job")
        }
    )


def _ripe(engine: sa.Engine, now: datetime) -> None:
    """Have something to claim: a batch of rows in ten quiet lanes."""
    _rows(engine, "003", _RIPE, text("quiet", N % 10), now, now)


def _fill(engine: sa.Engine, name: str, rows: int, now: datetime) -> None:
    lane: sa.ColumnElement[str] = sa.literal("hot") if name == "hot" else text("later", N % _LANES)
    era = {"few": "000", "many": "001", "hot": "002"}[name]
    _rows(engine, era, rows, lane, now if name == "hot" else after(now, _DAY), now)
    seeding.analyzed(engine)


def _rows(
    engine: sa.Engine,
    era: str,
    count: int,
    lane: sa.ColumnElement[str],
    due: datetime,
    now: datetime,
) -> None:
    """Insert that many jobs and deliveries."""
    for start, many in chunks(count):
        with engine.begin() as tx:
            queued = {
                "account": lane,
                "state": JobState.QUEUED,
                "due_at": due,
                "attempt": 0,
                "submitted_at": None,
            }
            seeding.jobs(tx, era, start, many, 1, now, **queued, vendor_task_id=None)
            fill(
                tx, delivery, start, many, id=ids("dlv", era), event_id=ids("evt", era), subscriber_id=lane,
                state=DeliveryState.PENDING, due_at=due, lease=0, tries=0, created_at=now,
            )  # fmt: skip
