"""The history of one job, told from the rows that each stage left behind, oldest first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator import wire
from orchestrator.clock import epoch_ms
from orchestrator.store import Tx
from orchestrator.tables import attempt, delivery, event, push, trace

Row = Mapping[Any, Any]

_CURSOR = re.compile(r"[0-9]{15}-[0-9][0-9a-z_.]{1,64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `cursor` sorts like time; things of one instant stand in the order of cause."""

    cursor: str
    said: dict[str, Any]


def is_cursor(text: str) -> bool:
    """True if `text` has the form of an entry's cursor."""
    return _CURSOR.fullmatch(text) is not None


def entries(tx: Tx, job_id: str) -> list[Entry]:
    """Return everything known of a job. No token, signature or secret is in it."""
    events = list(tx.execute(sa.select(event).where(event.c.job_id == job_id)).mappings())
    told = [*_traces(tx, job_id), *_pushes(tx, job_id), *_events(events), *_deliveries(tx, job_id)]
    return sorted(told, key=lambda entry: entry.cursor)


def _entry(at: datetime, kind: str, rank: int, key: object, said: Mapping[str, Any]) -> Entry:
    return Entry(f"{epoch_ms(at):015d}-{rank}{key}", {**said, "at": wire.instant(at), "kind": kind})


def _traces(tx: Tx, job_id: str) -> Iterator[Entry]:
    for row in tx.execute(sa.select(trace).where(trace.c.job_id == job_id)).mappings():
        yield _entry(row["at"], row["kind"], 0, f"{row['id']:019d}", row["detail"])


def _pushes(tx: Tx, job_id: str) -> Iterator[Entry]:
    """Yield the vendor's requests, rejected ones with the reason. Headers and bodies stay out: they may hold tokens."""
    shown = (push.c.outcome, push.c.verified, push.c.copies, push.c.attempt, sa.func.length(push.c.body).label("bytes"))
    for row in tx.execute(sa.select(push.c.id, push.c.received_at, *shown).where(push.c.job_id == job_id)).mappings():
        said = {name: row[name] for name in ("outcome", "verified", "copies", "attempt", "bytes")}
        yield _entry(row["received_at"], "push", 1, row["id"], said | {"push": row["id"]})


def _events(events: list[sa.RowMapping]) -> Iterator[Entry]:
    for row in events:
        to = row["type"].removeprefix("job.")
        move = {"to": to, "by": row["source"], "sequence": row["sequence"]}
        yield _entry(row["created_at"], "move", 2, row["id"], move)
        yield _entry(row["created_at"], "event", 3, row["id"], {"event": row["id"], "type": row["type"]})


def _deliveries(tx: Tx, job_id: str) -> Iterator[Entry]:
    owed = sa.select(delivery).join(event, event.c.id == delivery.c.event_id).where(event.c.job_id == job_id)
    for row in tx.execute(owed).mappings():
        said = {"delivery": row["id"], "event": row["event_id"], "subscriber": row["subscriber_id"]}
        yield _entry(row["created_at"], "delivery", 4, row["id"], said | {"status": row["state"]})
    tried = (
        sa.select(attempt, delivery.c.subscriber_id)
        .join(delivery, delivery.c.id == attempt.c.delivery_id)
        .join(event, event.c.id == delivery.c.event_id)
        .where(event.c.job_id == job_id)
    )
    for row in tx.execute(tried).mappings():
        of = {"delivery": row["delivery_id"], "subscriber": row["subscriber_id"]}
        yield _entry(row["at"], "attempt", 5, f"{row['delivery_id']}.{row['n']:05d}", of | wire.attempt(row))
