"""Taking jobs on: once for each idempotency key, and once for each external id of an account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.foundation.errors import Conflict, Problem

Row = Mapping[Any, Any]
Draft = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job we own now, or owned already under the same idempotency key."""

    job: Row
    replayed: bool = False


def create_jobs(tx: Tx, drafts: Sequence[Draft]) -> list[Accepted | Problem]:
    """Unit of work: own the jobs. A draft that meets another job of its key or external id gets that, or a problem."""
    rows = [_DEFAULTS | draft for draft in drafts]
    statement = insert(tx.dialect.name, job).on_conflict_do_nothing().returning(job.c.id)
    taken = set(tx.scalars(statement, rows))
    return [Accepted(row) if row["id"] in taken else _clash(tx, row) for row in rows]


def _clash(tx: Tx, row: Draft) -> Accepted | Problem:
    first = _same_key(tx, row)
    if first is None:
        return _taken(tx, row)
    if first["fingerprint"] == row["fingerprint"]:
        return Accepted(first, replayed=True)
    said = row["idempotency_key"].partition("\n")[0]
    return Problem(
        f"Idempotency-Key {said!r} was used with another body, for {first['id']}; send a new key",
        code="idempotency_key_reused",
        title="Idempotency key reused",
        job_id=first["id"],
    )


def _same_key(tx: Tx, row: Draft) -> Row | None:
    if row["idempotency_key"] is None:
        return None
    same = sa.and_(job.c.api_key == row["api_key"], job.c.idempotency_key == row["idempotency_key"])
    return tx.execute(sa.select(job).where(same)).mappings().first()


def _taken(tx: Tx, row: Draft) -> Accepted | Conflict:
    mine = sa.and_(
        job.c.account == row["account"], job.c.external_task_id == row["external_task_id"]
    )
    other = tx.execute(sa.select(job.c.id).where(mine)).scalar_one()
    if other == row["id"]:
        # This unit has run before: its commit arrived, and the word of it was lost.
        return Accepted(row)
    return Conflict(
        f"external_task_id {row['external_task_id']!r} belongs to {other} on account {row['account']}",
        code="external_task_id_taken",
        job_id=other,
    )


_DEFAULTS: Draft = {column.name: getattr(column.default, "arg", None) for column in job.columns}
