"""The limit of durability: the rows that pushes came to, committed by the bare driver in groups as large as ours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench.place import Place, place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.truth import SINCE
from orchestrator.database.tables import delivery, event, job, push

Rows = Sequence[tuple[Any, ...]]
_INSERTED: Mapping[sa.Table, sa.Column[str]] = {
    push: push.c.job_id,
    event: event.c.id,
    delivery: delivery.c.event_id,
}
_MOVED = (
    "state",
    "vendor_status",
    "output",
    "due_at",
    "version",
    "sequence",
    "finished_at",
    "resolved_by",
)

_WAITING = {
    "state": "submitted",
    "due_at": 1,
    "output": None,
    "finished_at": None,
    "resolved_by": None,
    "sequence": 0,
}


def committed(plan: Plan, source: Place, group: int) -> float:
    """Return how many pushes a second come to these rows, `group` of them in each commit."""
    with source.reading() as tx:
        jobs = _read(tx, job, job.c.id >= SINCE["job"], job.c.finished_at.is_not(None))
        rows = {
            table: _read(tx, table, column >= SINCE[_prefix(column)])
            for table, column in _INSERTED.items()
        }
    with place(plan) as here:
        with here.writing() as engine, engine.begin() as tx:
            _insert(tx, job, [_before(row) for row in jobs])
        with here.writing(durable=True) as engine:
            return _timed(engine, jobs, rows, max(1, group), plan.seconds)


def _timed(
    engine: sa.Engine, jobs: Rows, rows: Mapping[sa.Table, Rows], group: int, seconds: float
) -> float:
    names = list(job.c.keys())
    moved = [tuple(row[names.index(name)] for name in (*_MOVED, "id")) for row in jobs]
    total = len(rows[push])
    share = {table: len(found) / max(1, total) for table, found in rows.items()} | {
        job: len(moved) / max(1, total)
    }
    started, done = time.perf_counter(), 0
    while done < total and time.perf_counter() - started < seconds:
        end = min(total, done + group)
        with engine.begin() as tx:
            for table, found in rows.items():
                _insert(tx, table, found[round(done * share[table]) : round(end * share[table])])
            _move(tx, moved[round(done * share[job]) : round(end * share[job])])
        done = end
    return done / (time.perf_counter() - started)


def _read(tx: sa.Connection, table: sa.Table, *which: sa.ColumnElement[bool]) -> Rows:
    """Return rows as the driver has them: what the columns mean costs time, and is not the database's work."""
    plain = [sa.type_coerce(column, sa.types.NullType()) for column in table.c]
    return [tuple(row) for row in tx.execute(sa.select(*plain).where(*which))]


def _before(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a finished job as it was before: waiting for its vendor."""
    return tuple(_WAITING.get(name, value) for name, value in zip(job.c.keys(), row, strict=True))


def _insert(tx: sa.Connection, table: sa.Table, rows: Rows) -> None:
    if rows:
        names = ", ".join(table.c.keys())
        places = ", ".join([_mark(tx)] * len(table.c))
        tx.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({places})", list(rows))  # noqa: S608 - our names


def _move(tx: sa.Connection, rows: Rows) -> None:
    if rows:
        places = ", ".join(f"{name} = {_mark(tx)}" for name in _MOVED)
        tx.exec_driver_sql(f"UPDATE job SET {places} WHERE id = {_mark(tx)}", list(rows))  # noqa: S608 - our names


def _mark(tx: sa.Connection) -> str:
    return "?" if tx.dialect.paramstyle == "qmark" else "%s"


def _prefix(column: sa.Column[str]) -> str:
    return "job" if column.name == "job_id" else "evt"
