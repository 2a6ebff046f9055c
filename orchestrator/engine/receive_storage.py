"""What is kept of pushes: within the limits of each job, and once for all copies of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import BulkSelect, bulk_insert, one_of
from orchestrator.database.store import Tx
from orchestrator.database.tables import push
from orchestrator.database.tables.rows import PushRow

#: Pushes stored per job, and bytes of all their bodies: a leaked token must not fill the disk.
#: Later pushes are still applied and counted. Rejected ones get half, which leaves room for genuine
#: ones.
MAX_STORED = 100
MAX_STORED_BYTES = 4 << 20


#: Returns the job, the key and the size of each push that is stored.
Stored = Callable[[], list[list[Any]]]


def ask(tx: Tx, job_ids: Collection[str]) -> Stored:
    """Ask for the stored pushes of locked jobs: see `statements.ask`."""
    return _STORED.ask(tx, sorted(job_ids))


def store(tx: Tx, rows: Sequence[PushRow], stored: Stored) -> None:
    """Unit of work: store pushes within the limits of their jobs, and count copies."""
    _STORE(tx, _merge_copies(_within_limits(rows, stored)))


def is_rejected(row: PushRow) -> bool:
    """True for a push that was refused for its signature or its token."""
    return row["outcome"].startswith("rejected")


def _within_limits(rows: Sequence[PushRow], answer: Stored) -> list[PushRow]:
    """Return the rows to store. Beyond a job's limits, one row without a body counts the others."""
    stored: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for job_id, key, size in answer():
        stored[job_id][key] = size
    kept = []
    for row in rows:
        sizes, key, size = stored[row["job_id"]], row["dedupe_key"], len(row["body"])
        rejected = is_rejected(row)
        share = 2 if rejected else 1
        fits = (
            len(sizes) < MAX_STORED // share
            and sum(sizes.values()) + size <= MAX_STORED_BYTES // share
        )
        if key in sizes or fits:
            sizes[key] = size
        else:
            row["dedupe_key"] = f"{'rejected ' if rejected else ''}beyond {row['job_id']}"
            reason = "not kept: the job has too many pushes"
            row["outcome"] = f"rejected; {reason}" if rejected else reason
            row["headers"], row["body"] = {}, b""
        kept.append(row)
    return kept


def _merge_copies(rows: Sequence[PushRow]) -> list[PushRow]:
    """Merge copies of a push: on PostgreSQL one statement may not upsert the same row twice."""
    first: dict[tuple[str, str], PushRow] = {}
    for row in rows:
        known = first.setdefault((row["job_id"], row["dedupe_key"]), row)
        known["copies"] += known is not row
    return list(first.values())


#: Stores a push, or counts a copy of a stored one.
_STORE = bulk_insert(
    push, "id", "account", "job_id", "attempt", "received_at", "dedupe_key", "verified", "headers",
    "body", "outcome", "copies",
    on_conflict=lambda made: made.on_conflict_do_update(
        index_elements=["job_id", "dedupe_key"],
        set_={"copies": push.c.copies + made.excluded.copies},
    ),
)  # fmt: skip
_STORED = BulkSelect(
    sa.select(push.c.job_id, push.c.dedupe_key, sa.func.length(push.c.body)).where(
        one_of(push.c.job_id)
    )
)
