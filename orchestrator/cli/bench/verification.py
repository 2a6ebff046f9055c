"""The rows that a run stored: checks promises; commits them again with the bare driver."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench.measurement import Integrity, Plan, Sample
from orchestrator.cli.bench.scratch_database import ScratchDatabase, scratch_database
from orchestrator.cli.bench.seed import LOAD, submitted_jobs
from orchestrator.database.tables import attempt, delivery, event, job, push
from orchestrator.foundation.states import FINAL_EVENTS, DeliveryState, JobState

#: The least ids of jobs under load, and of their events.
FIRST_JOB, FIRST_EVENT = f"job_{LOAD}", f"evt_{LOAD}"
#: What a push changes of its job.
_CHANGED: tuple[str, ...] = ("state", "vendor_status", "output", "due_at", "version", "sequence")
_CHANGED += ("finished_at", "resolved_by")
Rows = Sequence[tuple[Any, ...]]


def check_jobs(database: ScratchDatabase, acknowledged: Collection[str] = ()) -> Integrity:
    """Check jobs under load: one completion event each, sequences without a gap.

    A job whose success was acknowledged is lost unless it has succeeded and its push is stored.
    """
    with database.transaction() as tx:
        succeeded = sa.select(job.c.id).where(job.c.state == JobState.SUCCEEDED)
        done = set(tx.scalars(succeeded.where(job.c.id >= FIRST_JOB)))
        stored = set(tx.scalars(sa.select(push.c.job_id).where(push.c.job_id >= FIRST_JOB)))
        ours = event.c.job_id >= FIRST_JOB
        completions = sa.select(sa.func.count() - sa.func.count(event.c.job_id.distinct()))
        gaps = sa.func.max(event.c.sequence) != sa.func.count()
        gapped = sa.select(event.c.job_id).where(ours).group_by(event.c.job_id).having(gaps)
        return Integrity(
            lost=sum(each not in done or each not in stored for each in acknowledged),
            duplicated=_count(tx, completions.where(ours, event.c.type.in_(FINAL_EVENTS))),
            out_of_order=len(tx.execute(gapped).all()),
        )


def check_attempts(database: ScratchDatabase, arrived: int) -> Integrity:
    """Count arrivals as lost that no recorded attempt or delivery state shows."""
    counted = sa.select(sa.func.count()).where(delivery.c.event_id >= FIRST_EVENT)
    attempts = attempt.join(delivery, delivery.c.id == attempt.c.delivery_id)
    with database.transaction() as tx:
        delivered = _count(tx, counted.where(delivery.c.state == DeliveryState.DELIVERED))
        attempted = _count(tx, counted.select_from(attempts))
    return Integrity(lost=max(0, arrived - min(delivered, attempted)))


def _count(tx: sa.Connection, query: sa.Select[Any]) -> int:
    return int(tx.execute(query).scalar_one())


def bare_commits(plan: Plan, source: ScratchDatabase, jobs: int, group: int) -> Sample:
    """Commit the rows of pushes again, `group` pushes at a time, to a database of `jobs` jobs."""
    with source.transaction() as tx:
        mark = "?" if tx.dialect.paramstyle == "qmark" else "%s"
        rows = {}
        for first, column in (
            (FIRST_JOB, push.c.job_id),
            (FIRST_EVENT, event.c.id),
            (FIRST_EVENT, delivery.c.event_id),
        ):
            table = column.table
            names, marks = ", ".join(table.c.keys()), ", ".join([mark] * len(table.c))
            insert = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - our names
            rows[insert] = _read(tx, [*table.c], column >= first)
        changes = ", ".join(f"{name} = {mark}" for name in _CHANGED)
        update = f"UPDATE job SET {changes} WHERE id = {mark}"  # noqa: S608 - our names
        columns = [job.c[name] for name in (*_CHANGED, "id")]
        rows[update] = _read(tx, columns, job.c.id >= FIRST_JOB, job.c.finished_at.is_not(None))
    with scratch_database(plan) as database:
        with database.writing() as engine:
            submitted_jobs(engine, jobs, plan.accounts or 1)
        with database.writing(durable=True) as engine:
            return _commit(engine, rows, max(1, group), plan.seconds)


def _read(
    tx: sa.Connection, columns: Sequence[sa.Column[Any]], *where: sa.ColumnElement[bool]
) -> Rows:
    """Return rows as the driver has them: converting values is not the database's work."""
    plain = [sa.type_coerce(column, sa.types.NullType()) for column in columns]
    return [tuple(row) for row in tx.execute(sa.select(*plain).where(*where))]


def _commit(engine: sa.Engine, rows: dict[str, Rows], group: int, seconds: float) -> Sample:
    """Execute the statements for `seconds`, the rows of every table in proportion."""
    total = len(next(iter(rows.values())))
    started, done = time.perf_counter(), 0
    while done < total and time.perf_counter() - started < seconds:
        end = min(total, done + group)
        with engine.begin() as tx:
            for statement, found in rows.items():
                share = len(found) / total
                if part := found[round(done * share) : round(end * share)]:
                    tx.exec_driver_sql(statement, list(part))
        done = end
    return Sample(done, done / (time.perf_counter() - started))
