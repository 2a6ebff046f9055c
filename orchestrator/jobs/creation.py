"""Job creation: one job per idempotency key, and one per external id of an account."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from orchestrator.database.bulk import bulk_insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.rows import JobRow, fetch
from orchestrator.foundation.errors import Conflict, Problem
from orchestrator.jobs import images


@dataclass(frozen=True, slots=True)
class Accepted:
    """A new job, or with `replayed` the job that the same idempotency key created before."""

    job: JobRow
    replayed: bool = False


def create_jobs(tx: Tx, drafts: Sequence[dict[str, Any]]) -> list[Accepted | Problem]:
    """Unit of work: create jobs from drafts (column values without those that have a default).

    A draft with the idempotency key of another job gets that job. A draft whose key was used with
    another body, or whose external id is taken, gets a `Problem`. The `fingerprints` of a draft are
    all that the same body may have been stored with; its `images` are stored with the job.
    """
    if not drafts:
        return []
    rows = [
        cast(JobRow, {name: draft.get(name, value) for name, value in _DEFAULTS.items()})
        for draft in drafts
    ]
    created = {job_id for (job_id,) in _CREATE.read(tx, rows)}
    images.store(tx, [draft for draft in drafts if draft["id"] in created])
    return [
        Accepted(row)
        if row["id"] in created
        else _conflict(tx, row, draft.get("fingerprints", (row["fingerprint"],)))
        for row, draft in zip(rows, drafts, strict=True)
    ]


def _conflict(tx: Tx, row: JobRow, fingerprints: Collection[str | None]) -> Accepted | Problem:
    key = row["idempotency_key"]
    first = None if key is None else _by_key(tx, row["api_key"], key)
    if key is None or first is None:
        return _external_id_taken(tx, row)
    if first["fingerprint"] in fingerprints:
        return Accepted(first, replayed=True)
    sent = key.partition("\n")[0]
    return Problem(
        f"Idempotency-Key {sent!r} was used with another body, for {first['id']}; send a new key",
        code="idempotency_key_reused",
        title="Idempotency key reused",
        job_id=first["id"],
    )


def _by_key(tx: Tx, api_key: str, key: str) -> JobRow | None:
    same = sa.and_(job.c.api_key == api_key, job.c.idempotency_key == key)
    return next(iter(fetch(tx, JobRow, sa.select(job).where(same))), None)


def _external_id_taken(tx: Tx, row: JobRow) -> Accepted | Conflict:
    account, external_id = row["account"], row["external_task_id"]
    same = sa.and_(job.c.account == account, job.c.external_task_id == external_id)
    other = tx.scalar(sa.select(job.c.id).where(same))
    if other is None:
        return Conflict("another retry of the same job was made meanwhile")
    if other == row["id"]:
        # This unit of work ran before: it was committed, and its result was lost.
        return Accepted(row)
    return Conflict(
        f"external_task_id {external_id!r} belongs to {other} on account {account}",
        code="external_task_id_taken",
        job_id=other,
    )


_DEFAULTS: dict[str, Any] = {
    column.name: getattr(column.default, "arg", None) for column in job.columns
}
_CREATE = bulk_insert(
    job, *_DEFAULTS, on_conflict=lambda made: made.on_conflict_do_nothing(), returning=job.c.id
)
