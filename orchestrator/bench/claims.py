"""What a claim costs beside an empty queue: with 100,000 rows due tomorrow, and with one lane of 100,000 due now."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestrator import claims
from orchestrator.clock import SystemClock, after
from orchestrator.states import DeliveryState, JobState
from orchestrator.store import Store, Tx
from orchestrator.tables import delivery, job

ROWS = 100_000
_REPEATS = 200
_DAY = 86400.0
Claim = Callable[[Tx, datetime], list[Any]]


def run(database: str | None, rounds: int) -> dict[str, Any]:
    """Measure on a database's URL, or on a file of SQLite's."""
    with tempfile.TemporaryDirectory() as name:
        return asyncio.run(_measure(database or f"sqlite:///{Path(name) / 'bench.db'}", rounds))


async def _measure(url: str, rounds: int) -> dict[str, Any]:
    store = Store(url)
    store.start()
    now = SystemClock().now()
    try:
        figures: dict[str, Any] = {}
        for queue, fill in (("empty", None), ("due_tomorrow", _tomorrow), ("hot_lane", _hot)):
            if fill is not None:
                await store.write(fill, now)
                if store.shared:
                    await store.write(lambda tx: tx.execute(sa.text("ANALYZE")) and None)
            for kind, claim in (("jobs", _jobs), ("deliveries", _deliveries)):
                spent = [t for _ in range(rounds) for t in await store.write(_timed, claim, now)]
                figures[f"{queue}.{kind}"] = {
                    "p50_ms": 1000 * statistics.median(spent),
                    "p99_ms": 1000 * sorted(spent)[int(0.99 * len(spent))],
                    "taken": await store.write(_counted, claim, now),
                    "plan": await store.write(_plan, claim, now),
                }
        return figures
    finally:
        store.close()


def _jobs(tx: Tx, now: datetime) -> list[Any]:
    lanes = claims.lanes(tx, job.c.account, now, JobState.QUEUED)
    return claims.take_jobs(tx, JobState.QUEUED, dict.fromkeys(lanes, claims.QUANTUM), now, 75.0, 64)


def _deliveries(tx: Tx, now: datetime) -> list[Any]:
    lanes = claims.lanes(tx, delivery.c.subscriber_id, now)
    return claims.take_deliveries(tx, dict.fromkeys(lanes, claims.QUANTUM), now, 45.0, 64)


def _timed(tx: Tx, claim: Claim, now: datetime) -> list[float]:
    """Return the seconds of each of many claims; each is taken back, so that all find the same."""
    spent = []
    for _ in range(_REPEATS):
        with tx.begin_nested() as undo:
            started = time.perf_counter()
            claim(tx, now)
            spent.append(time.perf_counter() - started)
            undo.rollback()
    return spent


def _counted(tx: Tx, claim: Claim, now: datetime) -> int:
    with tx.begin_nested() as undo:
        taken = len(claim(tx, now))
        undo.rollback()
    return taken


def _plan(tx: Tx, claim: Claim, now: datetime) -> list[str]:
    """Return how the database reads our tables for a claim."""
    found: list[str] = []
    how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if statement.startswith(("SELECT", "WITH", "UPDATE")):
            cursor.execute(how + statement, parameters)
            found.extend(str(row[-1]).strip().partition("  (")[0] for row in cursor.fetchall())

    sa.event.listen(tx, "before_cursor_execute", explain)
    try:
        with tx.begin_nested() as undo:
            claim(tx, now)
            undo.rollback()
    finally:
        sa.event.remove(tx, "before_cursor_execute", explain)
    return sorted({line for line in found if "ix_" in line or "Seq Scan" in line or line.startswith("SCAN job")})


def _tomorrow(tx: Tx, now: datetime) -> None:
    _fill(tx, "later", _text("lane", _N % 100), after(now, _DAY), now)


def _hot(tx: Tx, now: datetime) -> None:
    _fill(tx, "hot", sa.literal("hot"), now, now)


_N: sa.ColumnElement[int] = sa.column("n", sa.Integer)


def _text(prefix: str, number: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.literal(prefix) + sa.cast(number, sa.String)


def _fill(tx: Tx, name: str, lane: sa.ColumnElement[str], due: datetime, now: datetime) -> None:
    """Insert that many jobs and deliveries with one statement each."""
    first = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
    numbers = first.union_all(sa.select(first.c.n + 1).where(first.c.n < ROWS))

    def insert(table: sa.Table, **values: Any) -> None:
        columns = [
            value if isinstance(value, sa.ColumnElement) else sa.literal(value, table.c[column].type)
            for column, value in values.items()
        ]
        tx.execute(sa.insert(table).from_select(list(values), sa.select(*columns).select_from(numbers)))

    insert(
        job, id=_text(f"job_{name}", _N), account=lane, vendor="kling", model="m", capability="text2video", input={},
        external_task_id=_text(name, _N), state=JobState.QUEUED, metadata={}, api_key="bench", attempt=0, tries=0,
        asks=0, misses=0, lease=0, due_at=due, version=1, sequence=0, created_at=now, deadline_at=after(now, _DAY),
    )  # fmt: skip
    insert(
        delivery, id=_text(f"dlv_{name}", _N), event_id=_text(f"evt_{name}", _N), subscriber_id=lane,
        state=DeliveryState.PENDING, due_at=due, lease=0, tries=0, created_at=now,
    )  # fmt: skip
