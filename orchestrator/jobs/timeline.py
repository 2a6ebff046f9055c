"""The timeline of a job: its history, oldest first, from the rows that each stage left behind.

A page reads no more rows of a kind than it can show, however many there are of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any, cast

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, event, push, trace
from orchestrator.database.tables.rows import AttemptRow
from orchestrator.foundation.clock import EPOCH, epoch_ms
from orchestrator.foundation.states import EventType
from orchestrator.schemas.base import rfc3339_or_none
from orchestrator.schemas.deliveries import attempt_json


class Rank(IntEnum):
    """The order of entries of the same instant: cause before effect."""

    TRACE, PUSH, MOVE, EVENT, DELIVERY, ATTEMPT = range(6)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position of an entry, as text `{ms:015}-{rank}{key}` or `{ms:015}-{rank}{key}.{number}`.

    `ms` is milliseconds since 1970, `key` the id of the entry's row. `number` tells the attempts of
    one delivery apart.
    """

    ms: int
    rank: int
    key: str
    number: int = 0

    @staticmethod
    def parse(text: str | None) -> Cursor:
        """Return the cursor written as `text`, or one before every entry if it is none."""
        found = _CURSOR.fullmatch(text or "")
        if found is None:
            return Cursor(0, -1, "")
        ms, rank, key, number = found.groups()
        return Cursor(min(int(ms), _LAST_MS), int(rank), key, int(number or 0))


_CURSOR = re.compile(r"([0-9]{15})-([0-9])([0-9a-z_]{1,64})(?:\.([0-9]{1,9}))?")
#: Later than every entry.
_LAST_MS = 10**14
#: The ids of traces are numbers. In a cursor they have this many digits, so that they sort as text.
_DIGITS = 19
_LAST_TRACE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. Cursors sort by time, then by rank."""

    cursor: str
    document: dict[str, Any]


def is_cursor(text: str) -> bool:
    """True if `text` has the form of a cursor."""
    return _CURSOR.fullmatch(text) is not None


def entries(tx: Tx, job_id: str, after: str | None, limit: int) -> list[Entry]:
    """Return up to `limit` entries of a job after a cursor.

    They hold no token, signature or secret.
    """
    cursor = Cursor.parse(after)
    kinds = (_traces, _pushes, _moves, _events, _deliveries, _attempts)
    found = [entry for kind in kinds for entry in kind(tx, job_id, cursor, limit)]
    return sorted(found, key=lambda entry: entry.cursor)[:limit]


def _page(
    tx: Tx,
    found: sa.Select[Any],
    at: sa.Column[Any],
    rank: Rank,
    cursor: Cursor,
    limit: int,
    **keys: sa.Column[Any],
) -> Iterator[sa.RowMapping]:
    """Yield the first rows of a rank after a cursor (keyset pagination).

    `keys` order the rows of one instant. They are named by the parts of a cursor: `key`, `number`.
    """
    then = EPOCH + timedelta(milliseconds=cursor.ms)
    found = found.order_by(at, *keys.values()).limit(limit)
    if rank != cursor.rank:
        found = found.where(at >= then if rank > cursor.rank else at > then)
    else:
        values = sa.tuple_(*(getattr(cursor, name) for name in keys))
        # The first condition is the one that an index serves.
        found = found.where(at >= then, sa.or_(at > then, sa.tuple_(*keys.values()) > values))
    yield from tx.execute(found).mappings()


def _entry(
    row: sa.RowMapping, at: str, kind: str, rank: Rank, key: str, document: Mapping[str, Any]
) -> Entry:
    cursor = f"{epoch_ms(row[at]):015d}-{rank:d}{key}"
    return Entry(cursor, {**document, "at": rfc3339_or_none(row[at]), "kind": kind})


def _traces(tx: Tx, job_id: str, cursor: Cursor, limit: int) -> Iterator[Entry]:
    found = sa.select(trace).where(trace.c.job_id == job_id)
    last = int(cursor.key) if cursor.rank == Rank.TRACE and cursor.key.isdigit() else 0
    cursor = Cursor(cursor.ms, cursor.rank, cursor.key, min(last, _LAST_TRACE))
    for row in _page(tx, found, trace.c.at, Rank.TRACE, cursor, limit, number=trace.c.id):
        key = f"{row['id']:0{_DIGITS}d}"
        yield _entry(row, "at", row["kind"], Rank.TRACE, key, row["detail"])


def _pushes(tx: Tx, job_id: str, cursor: Cursor, limit: int) -> Iterator[Entry]:
    """Yield the vendor's pushes, rejected ones with the reason.

    Headers and bodies stay out: they may hold tokens.
    """
    size = sa.func.length(push.c.body).label("bytes")
    shown = (push.c.outcome, push.c.verified, push.c.copies, push.c.attempt, size)
    found = sa.select(push.c.id, push.c.received_at, *shown).where(push.c.job_id == job_id)
    for row in _page(tx, found, push.c.received_at, Rank.PUSH, cursor, limit, key=push.c.id):
        document = {column.name: row[column.name] for column in shown} | {"push": row["id"]}
        yield _entry(row, "received_at", "push", Rank.PUSH, row["id"], document)


def _of_events(
    tx: Tx, job_id: str, rank: Rank, cursor: Cursor, limit: int, *where: sa.ColumnElement[bool]
) -> Iterator[sa.RowMapping]:
    shown = (event.c.id, event.c.type, event.c.source, event.c.sequence, event.c.created_at)
    found = sa.select(*shown).where(event.c.job_id == job_id, *where)
    return _page(tx, found, event.c.created_at, rank, cursor, limit, key=event.c.id)


def _moves(tx: Tx, job_id: str, cursor: Cursor, limit: int) -> Iterator[Entry]:
    moved = event.c.type != EventType.JOB_STUCK
    for row in _of_events(tx, job_id, Rank.MOVE, cursor, limit, moved):
        to = row["type"].removeprefix("job.")
        move = {"to": to, "by": row["source"], "sequence": row["sequence"]}
        yield _entry(row, "created_at", "move", Rank.MOVE, row["id"], move)


def _events(tx: Tx, job_id: str, cursor: Cursor, limit: int) -> Iterator[Entry]:
    for row in _of_events(tx, job_id, Rank.EVENT, cursor, limit):
        document = {"event": row["id"], "type": row["type"]}
        yield _entry(row, "created_at", "event", Rank.EVENT, row["id"], document)


def _deliveries(tx: Tx, job_id: str, cursor: Cursor, limit: int) -> Iterator[Entry]:
    of_job = delivery.join(event, event.c.id == delivery.c.event_id)
    found = sa.select(delivery).select_from(of_job).where(event.c.job_id == job_id)
    at = delivery.c.created_at
    for row in _page(tx, found, at, Rank.DELIVERY, cursor, limit, key=delivery.c.id):
        document = {
            "delivery": row["id"],
            "event": row["event_id"],
            "subscriber": row["subscriber_id"],
            "status": row["state"],
        }
        yield _entry(row, "created_at", "delivery", Rank.DELIVERY, row["id"], document)


def _attempts(tx: Tx, job_id: str, cursor: Cursor, limit: int) -> Iterator[Entry]:
    found = (
        sa.select(attempt, delivery.c.subscriber_id)
        .join(delivery, delivery.c.id == attempt.c.delivery_id)
        .join(event, event.c.id == delivery.c.event_id)
        .where(event.c.job_id == job_id)
    )
    keys = {"key": attempt.c.delivery_id, "number": attempt.c.n}
    for row in _page(tx, found, attempt.c.at, Rank.ATTEMPT, cursor, limit, **keys):
        ids = {"delivery": row["delivery_id"], "subscriber": row["subscriber_id"]}
        key = f"{row['delivery_id']}.{row['n']:05d}"
        document = ids | attempt_json(cast("AttemptRow", row))
        yield _entry(row, "at", "attempt", Rank.ATTEMPT, key, document)
