"""Retention: deletes what is older than `retention_days`.

It works in slices of a few milliseconds, each a transaction, and rests between them: on SQLite the
event loop is blocked during a slice. Every statement reads and deletes a bounded number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import (
    attempt,
    callback_address,
    delivery,
    event,
    job,
    job_image,
    push,
    replay,
    trace,
)
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.ids import earliest
from orchestrator.foundation.settings import Settings

#: Seconds after which a slice begins nothing more. The rest after it: multiples of what it took,
#: and a minimum.
_SLICE = 0.002
_REST = 2.0
_MIN_REST = 0.01
#: Seconds for one run; the next continues where it stopped.
_RUN = 45.0
#: Rows that are looked at together.
_CHUNK = 16
#: Rows that one statement deletes: jobs, rows with a body, rows without one; and bytes of bodies.
#: To free the pages of a large row is slow.
_WIDE, _ROWS, _NARROW = 8, 64, 256
_BYTES = 1 << 20

IsOver = Callable[[], bool]
#: Looks at the rows of a table after an id and deletes the old ones. Returns the id that it
#: reached, or None at the end. It stops early, at an id from which it can continue, when time is
#: up.
Sweep = Callable[[Tx, datetime, str, IsOver], str | None]


@dataclass(kw_only=True)
class Retention:
    """The tick that deletes old rows. Remembers how far each table was swept."""

    store: Store
    clock: Clock
    settings: Settings
    #: By table: the id up to which every row was looked at.
    progress: dict[str, str] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Delete jobs that ended before the retention, with everything that belongs to them.

        Also deletes events without a job, pushes that arrived after their job was deleted, ended
        replays, and callback URLs that have not failed since. A job with a due delivery stays. Held
        deliveries are deleted with their job.
        """
        before = self.clock.now() - timedelta(days=self.settings.retention_days)
        deadline = self.clock.monotonic() + _RUN
        for table, sweep in _SWEEPS.items():
            place: str | None = self.progress.get(table, "")
            while place is not None:
                if (started := self.clock.monotonic()) >= deadline:
                    return
                place = await self.store.write(_slice, self.clock, sweep, before, place)
                self.progress[table] = place or ""
                # This includes the wait for other writers: the busier they are, the longer the
                # rest.
                took = self.clock.monotonic() - started
                await self.clock.sleep(max(_MIN_REST, _REST * took))


def _slice(tx: Tx, clock: Clock, sweep: Sweep, before: datetime, place: str) -> str | None:
    """Unit of work: sweep from a place until time is up.

    Return where it stopped, None at the end.
    """
    ends = clock.monotonic() + _SLICE

    def is_over() -> bool:
        return clock.monotonic() >= ends

    reached = sweep(tx, before, place, is_over)
    while reached is not None and not is_over():
        reached = sweep(tx, before, reached, is_over)
    return reached


def _sweep_jobs(tx: Tx, before: datetime, place: str, is_over: IsOver) -> str | None:
    found = tx.execute(_JOBS, {"place": place, "aged": earliest("job", before)}).all()
    ended = [
        job_id
        for job_id, due, finished in found
        if due is None and finished is not None and finished < before
    ]
    owed = set(tx.scalars(_OWED_JOBS, {"ids": ended})) if ended else set()
    old = [job_id for job_id in ended if job_id not in owed]
    parts = (_delete_job_events, _delete_pushes, _delete_traces, _delete_images)
    if old and not all(_delete_all(part, tx, old, is_over) for part in parts):
        return place
    for start in range(0, len(old), _WIDE):
        if start and is_over():
            return place
        tx.execute(_DELETE["job"], {"ids": old[start : start + _WIDE]})
    return found[-1].id if len(found) == _CHUNK else None


def _sweep_events_without_job(tx: Tx, before: datetime, place: str, is_over: IsOver) -> str | None:
    """Sweep events that belong to no job."""
    found = tx.execute(_EVENTS, {"place": place, "aged": earliest("evt", before)}).all()
    notices = [event_id for event_id, job_id in found if job_id is None]
    owed = set(tx.scalars(_OWED_EVENTS, {"ids": notices})) if notices else set()
    old = [event_id for event_id in notices if event_id not in owed]
    if old and not _delete_all(_delete_events_without_job, tx, old, is_over):
        return place
    return found[-1].id if len(found) == _CHUNK else None


def _sweep_orphan_pushes(tx: Tx, before: datetime, place: str, is_over: IsOver) -> str | None:
    """Sweep pushes without a job: a token outlives its job."""
    found = tx.execute(_ORPHANS, {"place": place, "aged": earliest("psh", before)}).all()
    if old := [push_id for push_id, job_id in found if job_id is None]:
        tx.execute(_DELETE["push"], {"ids": old})
    return found[-1].id if len(found) == _CHUNK else None


def _sweep_replays(tx: Tx, before: datetime, place: str, is_over: IsOver) -> str | None:
    """Sweep replays that have ended."""
    found = tx.execute(_REPLAYS, {"place": place, "aged": earliest("rpl", before)}).all()
    if old := [replay_id for replay_id, ended in found if ended is not None and ended < before]:
        tx.execute(_DELETE["replay"], {"ids": old})
    return found[-1].id if len(found) == _CHUNK else None


def _sweep_callback_addresses(tx: Tx, before: datetime, place: str, is_over: IsOver) -> str | None:
    """Sweep callback URLs that have not failed since."""
    found = tx.execute(_ADDRESSES, {"place": place}).all()
    if old := [key for key, updated in found if updated < before]:
        tx.execute(
            sa.delete(callback_address).where(callback_address.c.key.in_(_IDS)), {"ids": old}
        )
    return found[-1].key if len(found) == _CHUNK else None


def _delete_all(
    delete: Callable[[Tx, list[str]], bool], tx: Tx, ids: list[str], is_over: IsOver
) -> bool:
    """Call `delete` until it finds nothing more. False if time was up before that."""
    while delete(tx, ids):
        if is_over():
            return False
    return True


def _delete_job_events(tx: Tx, jobs: list[str]) -> bool:
    """Delete some events of jobs, with their deliveries. True if there may be more."""
    return _delete_events(tx, _up_to_bytes(tx.execute(_JOB_EVENTS, {"ids": jobs})))


def _delete_events_without_job(tx: Tx, notices: list[str]) -> bool:
    return _delete_events(tx, _up_to_bytes(tx.execute(_NOTICES, {"ids": notices})))


def _delete_events(tx: Tx, events: list[str]) -> bool:
    """Delete events, or if too much belongs to them, some of that. False if there are none."""
    if not events:
        return False
    owed = list(tx.scalars(_DELIVERIES, {"ids": events}))
    if owed:
        if attempts := tx.execute(_ATTEMPTS, {"ids": owed}).all():
            last = attempts[-1]
            keys = {"ids": owed, "delivery": last.delivery_id, "n": last.n}
            tx.execute(_DELETE_ATTEMPTS, keys)
        if len(attempts) == _NARROW:
            return True
        tx.execute(_DELETE["delivery"], {"ids": owed})
    if len(owed) < _ROWS:
        tx.execute(_DELETE["event"], {"ids": events})
    return True


def _delete_pushes(tx: Tx, jobs: list[str]) -> bool:
    if pushes := _up_to_bytes(tx.execute(_PUSHES, {"ids": jobs})):
        tx.execute(_DELETE["push"], {"ids": pushes})
    return bool(pushes)


def _delete_traces(tx: Tx, jobs: list[str]) -> bool:
    if traces := list(tx.scalars(_TRACES, {"ids": jobs})):
        tx.execute(_DELETE["trace"], {"ids": traces})
    return len(traces) == _NARROW


def _delete_images(tx: Tx, jobs: list[str]) -> bool:
    # One by one: each may have megabytes.
    image = tx.execute(_IMAGES, {"ids": jobs}).first()
    if image is not None:
        tx.execute(_DELETE_IMAGE, {"job": image.job_id, "reference": image.reference})
    return image is not None


def _up_to_bytes(found: Iterable[Sequence[Any]]) -> list[str]:
    """Return the first of some (id, bytes) that add up to `_BYTES`, at least one."""
    chosen, left = list[str](), _BYTES
    for row_id, size in found:
        if chosen and size > left:
            break
        chosen.append(row_id)
        left -= size
    return chosen


# Built once: building a statement costs more than running it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)


def _next_old(table: sa.Table, *also: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select the next old rows of a table, in the order of ids, which is that of time."""
    old = sa.and_(table.c.id > sa.bindparam("place"), table.c.id < sa.bindparam("aged"))
    return sa.select(table.c.id, *also).where(old).order_by(table.c.id).limit(_CHUNK)


def _some_of(
    key: sa.ColumnElement[str], *columns: sa.ColumnElement[Any], most: int = _ROWS
) -> sa.Select[Any]:
    return sa.select(*columns).where(key.in_(_IDS)).limit(most)


_JOBS = _next_old(job, job.c.due_at, job.c.finished_at)
_EVENTS = _next_old(event, event.c.job_id)
_ORPHANS = _next_old(push, job.c.id.label("job")).select_from(
    push.outerjoin(job, job.c.id == push.c.job_id)
)
_REPLAYS = _next_old(replay, replay.c.finished_at)
_ADDRESSES = (
    sa.select(callback_address.c.key, callback_address.c.updated_at)
    .where(callback_address.c.key > sa.bindparam("place"))
    .order_by(callback_address.c.key)
    .limit(_CHUNK)
)
_OWED_EVENTS = sa.select(delivery.c.event_id).where(
    delivery.c.event_id.in_(_IDS), delivery.c.due_at.is_not(None)
)
_OWED_JOBS = (
    sa.select(event.c.job_id)
    .join(delivery, delivery.c.event_id == event.c.id)
    .where(event.c.job_id.in_(_IDS), delivery.c.due_at.is_not(None))
)
_JOB_EVENTS = _some_of(event.c.job_id, event.c.id, sa.func.length(event.c.body))
_NOTICES = _some_of(event.c.id, event.c.id, sa.func.length(event.c.body))
_DELIVERIES = _some_of(delivery.c.event_id, delivery.c.id)
_PUSHES = _some_of(push.c.job_id, push.c.id, sa.func.length(push.c.body))
# Rows are found first and then deleted. In one statement PostgreSQL may join the two, and read the
# table over and over if its statistics say that it is empty.
_ATTEMPT = (attempt.c.delivery_id, attempt.c.n)
_ATTEMPTS = _some_of(attempt.c.delivery_id, *_ATTEMPT, most=_NARROW).order_by(*_ATTEMPT)
_DELETE_ATTEMPTS = sa.delete(attempt).where(
    attempt.c.delivery_id.in_(_IDS),
    sa.tuple_(*_ATTEMPT) <= sa.tuple_(sa.bindparam("delivery"), sa.bindparam("n")),
)
_IMAGES = _some_of(job_image.c.job_id, job_image.c.job_id, job_image.c.reference, most=1)
_DELETE_IMAGE = sa.delete(job_image).where(
    job_image.c.job_id == sa.bindparam("job"), job_image.c.reference == sa.bindparam("reference")
)
_TRACES = _some_of(trace.c.job_id, trace.c.id, most=_NARROW)
_DELETE = {
    table.name: sa.delete(table).where(table.c.id.in_(_IDS))
    for table in (job, event, delivery, push, replay, trace)
}
#: In this order, since what belongs to a job is deleted with it.
_SWEEPS: Mapping[str, Sweep] = {
    "job": _sweep_jobs,
    "event": _sweep_events_without_job,
    "push": _sweep_orphan_pushes,
    "replay": _sweep_replays,
    "callback_address": _sweep_callback_addresses,
}
