"""The events in the order in which they were committed: what a reader who comes back can go on with.

Ids will not do. They are made before the commit, by several processes with clocks of their own, so an event with a
smaller id can appear after a larger one was read, and a reader that goes on after the larger one never sees it. Here
every event has a place, and nothing is read beyond the last place up to which the log is whole.

On PostgreSQL the place is a number from a sequence, drawn while the row is inserted; an INSERT locks the table (ROW
EXCLUSIVE) before it draws, and keeps the lock until its transaction has ended, and what it wrote is visible or never
will be. So: see which number was given out last, then which transactions have that lock. When all of those have ended,
each number up to the one seen is visible or given up, and the log is whole up to it. No clock has a part in this, and
no transaction of anybody else, however long, holds it up. A process that freezes in a transaction does, until the
server ends that one after ten seconds.

SQLite has one writer: whatever is visible is whole, and the place is the rowid. It may be given out again once the
newest event was deleted, which retention does not do within a day; `stands` tells.

What is known to be whole must be read in another transaction than it was found in, as under REPEATABLE READ that one
sees no commit of the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import event
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.ids import earliest

#: An event: id, type, source, job_id, body and its place, `position`.
Row = Mapping[Any, Any]

#: Events, and bytes of their bodies, that a reader is given at once; one event at least.
ROWS, BYTES = 64, 64 << 10
#: Events that are looked at for those of some types.
LOOK = 5_000


@dataclass(frozen=True, slots=True)
class Watermark:
    """The log is whole up to the place `upto`; negative: that is not known yet.

    It will be up to `given` when the transactions in `writing` have ended.
    """

    upto: int = -1
    given: int = -1
    writing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: of these types, and about this job. None: whatever there is."""

    types: frozenset[str] | None = None
    job: str | None = None

    def takes(self, row: Row) -> bool:
        """True for an event that is wanted."""
        return (self.types is None or row["type"] in self.types) and self.job in (
            None,
            row["job_id"],
        )


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Some events, oldest first, and the place up to which there are no others. `more` if reading on finds more.

    `last` is the id of the event at that place, as far as it is known.
    """

    rows: Sequence[Row]
    place: int
    more: bool = False
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader begins: after this place. `id` leads back to it. `gap`: the reader may have missed some before.

    It is the id of the event that stands there, or one that `earliest` made: before all there is.
    """

    place: int
    id: str
    gap: bool = False


def watermark(tx: Tx, known: Watermark) -> Watermark:
    """Return how far the log is whole, from what was known of it a moment ago."""
    if tx.dialect.name != "postgresql":
        return Watermark(tx.scalar(_NEWEST) or 0)
    # In this order: who had drawn one of these numbers, and has not ended, still has its lock when that is looked for.
    given: int = tx.scalar(_GIVEN) or 0
    writing = frozenset(tx.scalars(_WRITING))
    if left := known.writing & writing:
        return replace(known, writing=left)
    if writing:
        return Watermark(known.given, given, writing)
    return Watermark(given, given)


def end(tx: Tx, known: Watermark, now_id: str) -> Cursor:
    """Return the end of the log. In an empty one it is marked by `now_id`, the `earliest` id of now."""
    place = _place(tx.dialect.name)
    newest = sa.select(place, event.c.id).where(place <= known.upto).order_by(place.desc()).limit(1)
    found = tx.execute(newest).first()
    return Cursor(*found) if found else Cursor(max(known.upto, 0), now_id)


def cursor_of(tx: Tx, event_id: str, oldest: str, now_id: str) -> Cursor:
    """Return where a reader goes on that has seen an event; `oldest` is the earliest id that retention leaves alone.

    What came after an event that old may be deleted, so it leaves a gap. So does one that is not there, whether deleted
    or never made: reading goes on after the last one that is older by its id.
    """
    place = _place(tx.dialect.name)
    if (found := tx.scalar(sa.select(place).where(event.c.id == event_id))) is not None:
        return Cursor(found, event_id, gap=event_id < oldest)
    if event_id.endswith(_BOUND):
        # Given out when there was nothing before it: whatever there is comes after it.
        return Cursor(0, event_id, gap=event_id < oldest)
    older = sa.select(place, event.c.id).where(event.c.id < event_id, place.is_not(None))
    before = tx.execute(older.order_by(event.c.id.desc()).limit(1)).first()
    return Cursor(before[0], before[1], gap=True) if before else Cursor(0, now_id, gap=True)


def read_batch(
    tx: Tx, place: int, upto: int, wanted: EventFilter, most: int = ROWS, room: int = BYTES
) -> EventBatch:
    """Return the first wanted events after a place and not after `upto`."""
    sizes, rows = _statements(tx.dialect.name, wanted.types is not None, wanted.job is not None)
    edge = _edge(tx, place, upto) if wanted.types is not None and wanted.job is None else None
    ends = upto if edge is None else edge.place
    which = {"place": place, "upto": ends, "types": list(wanted.types or ()), "job": wanted.job}
    found = tx.execute(sizes, which | {"most": most + 1}).all()
    kept = share([size for _, size in found[:most]], room)
    taken = list(tx.execute(rows, which | {"upto": found[kept - 1][0]}).mappings()) if kept else []
    if kept < len(found):
        return EventBatch(taken, found[kept - 1][0], True, taken[-1]["id"] if taken else None)
    return EventBatch(taken, ends, edge is not None, edge.id if edge else None)


def _edge(tx: Tx, place: int, upto: int) -> Cursor | None:
    """Return where the events end that one page looks at; None if those are all there are."""
    at = _place(tx.dialect.name)
    looked = sa.select(at, event.c.id).where(at > place, at <= upto).order_by(at)
    found = tx.execute(looked.offset(LOOK - 1).limit(1)).first()
    return Cursor(*found) if found else None


def share(sizes: Sequence[int], room: int = BYTES) -> int:
    """Return how many of these are given at once: as many as there is room for, and at least one."""
    for count, size in enumerate(sizes):
        room -= size
        if room < 0:
            return max(count, 1)
    return len(sizes)


def stands(tx: Tx, at: Cursor) -> bool:
    """True if a place still is where it was: on SQLite it may have been given to another event."""
    if tx.dialect.name == "postgresql" or not at.place:
        return True
    return tx.scalar(sa.select(event.c.id).where(_place("sqlite") == at.place)) == at.id


#: What ends an id that `earliest` made; no event's id ends so.
_BOUND = earliest("evt", EPOCH)[-16:]


@lru_cache
def _place(dialect: str) -> sa.ColumnElement[int]:
    if dialect == "postgresql":
        return event.c.position
    return sa.literal_column("event.rowid", sa.BigInteger)


@lru_cache
def _statements(dialect: str, typed: bool, about: bool) -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return what finds the sizes of some events, and what reads them."""
    place = _place(dialect)
    which = [place > sa.bindparam("place"), place <= sa.bindparam("upto")]
    if typed:
        which.append(event.c.type.in_(sa.bindparam("types", expanding=True)))
    if about:
        which.append(event.c.job_id == sa.bindparam("job"))
    columns = [event.c[name] for name in ("id", "type", "source", "job_id", "body")]
    sizes = (
        sa.select(place, sa.func.length(event.c.body))
        .where(*which)
        .order_by(place)
        .limit(sa.bindparam("most"))
    )
    return sizes, sa.select(place.label("position"), *columns).where(*which).order_by(place)


_NEWEST = sa.select(sa.func.max(_place("sqlite"))).select_from(event)
_GIVEN = sa.text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_position")
_WRITING = sa.text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = 'event'::regclass"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND mode = 'RowExclusiveLock' AND granted"
)
