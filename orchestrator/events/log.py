"""The event log in commit order, up to a low watermark, so that a reader can resume.

Ids do not order it: several processes with their own clocks make them before the commit, so an
event with a smaller id can become visible after a larger one was read, and a reader that resumes
after the larger id never sees it. A sequence alone has the same problem:
https://event-driven.io/en/ordering_in_postgres_outbox/
Here every event has a position, and no reader goes beyond the low watermark: every event at or
below it is visible.

PostgreSQL: the position is a number from a sequence, drawn while the row is inserted. An INSERT
takes the table's ROW EXCLUSIVE lock before it draws and keeps the lock until its transaction ends;
by then its rows are visible or never will be. So: read the last number allocated, then the
transactions that hold this lock. When all of these have ended, every number up to the one read is
visible or given up, and that number is the low watermark. No clock is involved, and no other
transaction delays it, however long. A process that freezes in a writing transaction does, until the
server ends that transaction after ten seconds.

SQLite has one writer: the position is the rowid, and everything visible is below the watermark. A
rowid can be allocated again once the newest event was deleted, which retention does not do within a
day; `is_in_place` detects it.

A watermark must be used in another transaction than the one that found it: under REPEATABLE READ
that one does not see commits since it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypedDict

import sqlalchemy as sa

from orchestrator.database.listing import fitting
from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.database.tables.rows import fetch
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.ids import earliest

#: A batch holds at most so many events, and bytes of their bodies; always at least one event.
MAX_ROWS, MAX_BYTES = 64, 64 << 10
#: How many events one batch scans for those of some types.
MAX_SCAN = 5_000


class LogRow(TypedDict):
    """An event of the log and its position."""

    id: str
    type: str
    source: str
    job_id: str | None
    body: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """Low watermark: every event at or below position `visible` is visible. -1 while unknown.

    It rises to `allocated` when the transactions in `open_writers` have ended.
    """

    visible: int = -1
    allocated: int = -1
    open_writers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Selects events by type and by job; None: all of them."""

    types: frozenset[str] | None = None
    job: str | None = None

    def matches(self, row: LogRow) -> bool:
        """Return whether the filter selects an event."""
        has_type = self.types is None or row["type"] in self.types
        return has_type and self.job in (None, row["job_id"])


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events, oldest first, and the position up to which there are no others.

    `more` is True if reading on finds more. `last_id` is the id of the event at the position, if
    known.
    """

    rows: Sequence[LogRow]
    position: int
    more: bool = False
    last_id: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader resumes: after `position`. `gap`: it may have missed events before that.

    `id` leads back to it. It is the id of the event there, or one made by `earliest`, which comes
    before all events.
    """

    position: int
    id: str
    gap: bool = False


def watermark(tx: Tx, known: Watermark) -> Watermark:
    """Return the low watermark, given the previous one."""
    if tx.dialect.name != "postgresql":
        return Watermark(tx.scalar(_NEWEST) or 0)
    # In this order: a transaction that has drawn one of these numbers and is still open holds its
    # lock when the locks are read.
    allocated: int = tx.scalar(_ALLOCATED) or 0
    writers = frozenset(tx.scalars(_WRITERS))
    if still_open := known.open_writers & writers:
        return replace(known, open_writers=still_open)
    if writers:
        return Watermark(known.allocated, allocated, writers)
    return Watermark(allocated, allocated)


def end(tx: Tx, known: Watermark, now_id: str) -> Cursor:
    """Return the end of the log. In an empty log its id is `now_id`, the `earliest` id of now."""
    position = _position(tx.dialect.name)
    query = sa.select(position, event.c.id).where(position <= known.visible)
    newest = tx.execute(query.order_by(position.desc()).limit(1)).first()
    return Cursor(*newest) if newest else Cursor(max(known.visible, 0), now_id)


def cursor_of(tx: Tx, event_id: str, oldest: str, now_id: str) -> Cursor:
    """Return where a reader resumes whose last event is `event_id`.

    `oldest` is the earliest id that retention keeps. After an older event others may be deleted:
    that is a gap. An id that is absent, deleted or never made, is a gap too: reading resumes after
    the newest event with a smaller id.
    """
    position = _position(tx.dialect.name)
    if (found := tx.scalar(sa.select(position).where(event.c.id == event_id))) is not None:
        return Cursor(found, event_id, gap=event_id < oldest)
    if event_id.endswith(_EARLIEST_SUFFIX):
        # Issued for an empty log: every event comes after it.
        return Cursor(0, event_id, gap=event_id < oldest)
    older = sa.select(position, event.c.id).where(event.c.id < event_id, position.is_not(None))
    before = tx.execute(older.order_by(event.c.id.desc()).limit(1)).first()
    return Cursor(before[0], before[1], gap=True) if before else Cursor(0, now_id, gap=True)


def read_batch(
    tx: Tx,
    position: int,
    visible: int,
    wanted: EventFilter,
    max_rows: int = MAX_ROWS,
    max_bytes: int = MAX_BYTES,
) -> EventBatch:
    """Return the first wanted events after `position` and at or below `visible`."""
    sizes, rows = _statements(tx.dialect.name, wanted.types is not None, wanted.job is not None)
    limit = None
    if wanted.types is not None and wanted.job is None:
        limit = _scan_limit(tx, position, visible)
    last = visible if limit is None else limit.position
    values = {"after": position, "types": list(wanted.types or ()), "job": wanted.job}
    found = tx.execute(sizes, values | {"last": last, "limit": max_rows + 1}).all()
    count = fitting([size for _, size in found[:max_rows]], max_bytes)
    taken = fetch(tx, LogRow, rows, values | {"last": found[count - 1][0]}) if count else []
    if count < len(found):
        return EventBatch(taken, found[count - 1][0], True, taken[-1]["id"] if taken else None)
    return EventBatch(taken, last, limit is not None, limit.id if limit else None)


def _scan_limit(tx: Tx, position: int, visible: int) -> Cursor | None:
    """Return the last event that one batch scans; None if it scans all of them."""
    at = _position(tx.dialect.name)
    scanned = sa.select(at, event.c.id).where(at > position, at <= visible).order_by(at)
    found = tx.execute(scanned.offset(MAX_SCAN - 1).limit(1)).first()
    return Cursor(*found) if found else None


def is_in_place(tx: Tx, at: Cursor) -> bool:
    """Return whether the cursor's event still has its position: SQLite may have reallocated it."""
    if tx.dialect.name == "postgresql" or not at.position:
        return True
    return tx.scalar(sa.select(event.c.id).where(_position("sqlite") == at.position)) == at.id


#: The suffix of the ids that `earliest` makes; no event's id ends so.
_EARLIEST_SUFFIX = earliest("evt", EPOCH)[-16:]


@lru_cache
def _position(dialect: str) -> sa.ColumnElement[int]:
    if dialect == "postgresql":
        return event.c.position
    return sa.literal_column("event.rowid", sa.BigInteger)


@lru_cache
def _statements(dialect: str, by_type: bool, by_job: bool) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return the statement that reads the sizes of events, and the one that reads the events."""
    position = _position(dialect)
    which = [position > sa.bindparam("after"), position <= sa.bindparam("last")]
    if by_type:
        which.append(event.c.type.in_(sa.bindparam("types", expanding=True)))
    if by_job:
        which.append(event.c.job_id == sa.bindparam("job"))
    columns = [event.c[name] for name in ("id", "type", "source", "job_id", "body")]
    sizes = sa.select(position, sa.func.length(event.c.body)).where(*which).order_by(position)
    rows = sa.select(position.label("position"), *columns).where(*which).order_by(position)
    return sizes.limit(sa.bindparam("limit")), rows


_NEWEST = sa.select(sa.func.max(_position("sqlite"))).select_from(event)
_ALLOCATED = sa.text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_position")
_WRITERS = sa.text(
    "SELECT virtualtransaction FROM pg_locks"
    " WHERE locktype = 'relation' AND relation = 'event'::regclass"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND mode = 'RowExclusiveLock' AND granted"
)
