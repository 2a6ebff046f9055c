"""The history of one job, told from the rows that each stage left behind, oldest first.

Of each kind of row a page reads only what it can show, however much there is of the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, event, push, trace
from orchestrator.foundation.clock import EPOCH, epoch_ms
from orchestrator.schemas.base import rfc3339_or_none
from orchestrator.schemas.deliveries import attempt_json

Row = Mapping[Any, Any]

_CURSOR = re.compile(r"([0-9]{15})-([0-9])([0-9a-z_]{1,64})(?:\.([0-9]{1,9}))?")
#: The order of what happened in one instant: that of cause.
_TRACE, _PUSH, _MOVE, _EVENT, _DELIVERY, _ATTEMPT = range(6)
_NUMBER_WIDTH = 19
_LAST_NUMBER = 2**63 - 1
#: Later than all there is.
_LAST_MS = 10**14


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `cursor` sorts like time; things of one instant stand in the order of cause."""

    cursor: str
    said: dict[str, Any]


class _Cursor(NamedTuple):
    """Where a page begins: after what happened then, of that rank, with that key (and number, of an attempt)."""

    ms: int
    rank: int
    key: str
    number: int


def is_cursor(text: str) -> bool:
    """True if `text` has the form of an entry's cursor."""
    return _CURSOR.fullmatch(text) is not None


def entries(tx: Tx, job_id: str, after: str | None, limit: int) -> list[Entry]:
    """Return what is known of a job after a cursor, at most so much. No token, signature or secret is in it."""
    place = _place(after)
    told = [
        entry
        for kind in (_traces, _pushes, _moves, _events, _deliveries, _attempts)
        for entry in kind(tx, job_id, place, limit)
    ]
    return sorted(told, key=lambda entry: entry.cursor)[:limit]


def _place(cursor: str | None) -> _Cursor:
    said = _CURSOR.fullmatch(cursor or "")
    return (
        _Cursor(min(int(said[1]), _LAST_MS), int(said[2]), said[3], int(said[4] or 0))
        if said
        else _Cursor(0, -1, "", 0)
    )


def _later(
    found: sa.Select[Any],
    at: sa.Column[Any],
    rank: int,
    place: _Cursor,
    limit: int,
    **keys: sa.Column[Any],
) -> sa.Select[Any]:
    """Narrow `found` to the first rows of a rank after a place. `keys` say what orders those of one instant."""
    then = EPOCH + timedelta(milliseconds=place.ms)
    found = found.order_by(at, *keys.values()).limit(limit)
    if rank != place.rank:
        return found.where(at >= then if rank > place.rank else at > then)
    known: Mapping[str, str | int] = {"key": place.key, "number": place.number}
    here = sa.tuple_(*keys.values()) > sa.tuple_(*(known[name] for name in keys))
    # The first condition is what an index finds.
    return found.where(at >= then, sa.or_(at > then, here))


def _rows(tx: Tx, found: sa.Select[Any]) -> Sequence[Row]:
    return tx.execute(found).mappings().all()


def _entry(row: Row, at: str, kind: str, rank: int, key: object, said: Mapping[str, Any]) -> Entry:
    return Entry(
        f"{epoch_ms(row[at]):015d}-{rank}{key}",
        {**said, "at": rfc3339_or_none(row[at]), "kind": kind},
    )


def _traces(tx: Tx, job_id: str, place: _Cursor, limit: int) -> Iterator[Entry]:
    digits = place.key if place.rank == _TRACE and place.key.isdigit() else "0"
    mine = sa.select(trace).where(trace.c.job_id == job_id)
    found = _later(
        mine,
        trace.c.at,
        _TRACE,
        place._replace(number=min(int(digits), _LAST_NUMBER)),
        limit,
        number=trace.c.id,
    )
    for row in _rows(tx, found):
        yield _entry(
            row, "at", row["kind"], _TRACE, f"{row['id']:0{_NUMBER_WIDTH}d}", row["detail"]
        )


def _pushes(tx: Tx, job_id: str, place: _Cursor, limit: int) -> Iterator[Entry]:
    """Yield the vendor's requests, rejected ones with the reason. Headers and bodies stay out: they may hold tokens."""
    shown = (
        push.c.outcome,
        push.c.verified,
        push.c.copies,
        push.c.attempt,
        sa.func.length(push.c.body).label("bytes"),
    )
    mine = sa.select(push.c.id, push.c.received_at, *shown).where(push.c.job_id == job_id)
    for row in _rows(tx, _later(mine, push.c.received_at, _PUSH, place, limit, key=push.c.id)):
        said = {name: row[name] for name in ("outcome", "verified", "copies", "attempt", "bytes")}
        yield _entry(row, "received_at", "push", _PUSH, row["id"], said | {"push": row["id"]})


def _happened(tx: Tx, job_id: str, rank: int, place: _Cursor, limit: int) -> Iterable[Row]:
    shown = (event.c.id, event.c.type, event.c.source, event.c.sequence, event.c.created_at)
    mine = sa.select(*shown).where(event.c.job_id == job_id)
    return _rows(tx, _later(mine, event.c.created_at, rank, place, limit, key=event.c.id))


def _moves(tx: Tx, job_id: str, place: _Cursor, limit: int) -> Iterator[Entry]:
    for row in _happened(tx, job_id, _MOVE, place, limit):
        move = {
            "to": row["type"].removeprefix("job."),
            "by": row["source"],
            "sequence": row["sequence"],
        }
        yield _entry(row, "created_at", "move", _MOVE, row["id"], move)


def _events(tx: Tx, job_id: str, place: _Cursor, limit: int) -> Iterator[Entry]:
    for row in _happened(tx, job_id, _EVENT, place, limit):
        yield _entry(
            row, "created_at", "event", _EVENT, row["id"], {"event": row["id"], "type": row["type"]}
        )


def _deliveries(tx: Tx, job_id: str, place: _Cursor, limit: int) -> Iterator[Entry]:
    mine = (
        sa.select(delivery)
        .join(event, event.c.id == delivery.c.event_id)
        .where(event.c.job_id == job_id)
    )
    for row in _rows(
        tx, _later(mine, delivery.c.created_at, _DELIVERY, place, limit, key=delivery.c.id)
    ):
        said = {"delivery": row["id"], "event": row["event_id"], "subscriber": row["subscriber_id"]}
        yield _entry(
            row, "created_at", "delivery", _DELIVERY, row["id"], said | {"status": row["state"]}
        )


def _attempts(tx: Tx, job_id: str, place: _Cursor, limit: int) -> Iterator[Entry]:
    mine = (
        sa.select(attempt, delivery.c.subscriber_id)
        .join(delivery, delivery.c.id == attempt.c.delivery_id)
        .join(event, event.c.id == delivery.c.event_id)
        .where(event.c.job_id == job_id)
    )
    keys = {"key": attempt.c.delivery_id, "number": attempt.c.n}
    for row in _rows(tx, _later(mine, attempt.c.at, _ATTEMPT, place, limit, **keys)):
        of = {"delivery": row["delivery_id"], "subscriber": row["subscriber_id"]}
        yield _entry(
            row,
            "at",
            "attempt",
            _ATTEMPT,
            f"{row['delivery_id']}.{row['n']:05d}",
            of | attempt_json(row),
        )
