"""What keeps the house in order without anybody asking: rows every account needs, and rows nobody needs any more.

Retention works in slices of a few milliseconds, each a transaction of its own, and rests between them: on SQLite the
event loop stands still for a slice. What a statement reads and deletes is bounded, however much there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, event, job, push, replay, trace
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.ids import earliest

_DAY = 86400.0
#: Seconds after which a slice begins nothing more; the rest after it, in multiples of what it took, and at least.
_SLICE = 0.002
_REST = 2.0
_SHORTEST_REST = 0.01
#: Seconds for one visit; the next one goes on where it stopped.
_VISIT = 45.0
#: Rows that are looked at together.
_LOOK = 16
#: Rows that one statement deletes: jobs, rows with a body, rows without; and bytes of such bodies. To free the pages of
#: a large row takes long.
_WIDE, _ROWS, _NARROW = 8, 64, 256
_BYTES = 1 << 20


@dataclass(slots=True)
class Progress:
    """How far retention has come: of each table, the id up to which everything was looked at."""

    after: dict[str, str] = field(default_factory=dict)


#: Looks at the next rows after an id, and deletes what is old and nobody's; returns the id it came to, or None at the
#: end. Given whether time is up, it stops early, at an id from which it can go on.
Sweep = Callable[[Tx, datetime, str, Callable[[], bool]], str | None]


async def retire(runtime: Runtime, progress: Progress | None = None) -> None:
    """Delete jobs that ended longer ago than the retention, with everything about them.

    Also notices that are about no job, and pushes that came when their job was gone. What still has a delivery due
    stays; one that is held for a subscriber goes with the rest.
    """
    progress = progress or Progress()
    before = after(runtime.clock.now(), -_DAY * runtime.settings.retention_days)
    ends = runtime.clock.monotonic() + _VISIT
    for name, sweep in _SWEEPS.items():
        place: str | None = progress.after.get(name, "")
        while place is not None:
            if (started := runtime.clock.monotonic()) >= ends:
                return
            place = await runtime.store.write(_slice, runtime.clock, sweep, before, place)
            progress.after[name] = place or ""
            # How long it took includes the wait for others: the busier they are, the longer this rests.
            await runtime.clock.sleep(
                max(_SHORTEST_REST, _REST * (runtime.clock.monotonic() - started))
            )


def _slice(tx: Tx, clock: Clock, sweep: Sweep, before: datetime, place: str) -> str | None:
    """Unit of work: sweep on from a place until time is up. Return where it stopped, None at the end."""
    ends = clock.monotonic() + _SLICE

    def is_over() -> bool:
        return clock.monotonic() >= ends

    reached = sweep(tx, before, place, is_over)
    while reached is not None and not is_over():
        reached = sweep(tx, before, reached, is_over)
    return reached


def _old_jobs(tx: Tx, before: datetime, place: str, is_over: Callable[[], bool]) -> str | None:
    found = tx.execute(_JOBS, {"place": place, "aged": earliest("job", before)}).all()
    ended = [
        job_id
        for job_id, due, finished in found
        if due is None and finished is not None and finished < before
    ]
    owed = set(tx.scalars(_OWED_JOBS, {"ids": ended})) if ended else set()
    gone = [job_id for job_id in ended if job_id not in owed]
    if gone and not all(_emptied(empty, tx, gone, is_over) for empty in (_told, _pushed, _noted)):
        return place
    for start in range(0, len(gone), _WIDE):
        if start and is_over():
            return place
        tx.execute(_GONE["job"], {"ids": gone[start : start + _WIDE]})
    return found[-1].id if len(found) == _LOOK else None


def _old_notices(tx: Tx, before: datetime, place: str, is_over: Callable[[], bool]) -> str | None:
    """Sweep events that are about no job."""
    found = tx.execute(_EVENTS, {"place": place, "aged": earliest("evt", before)}).all()
    notices = [event_id for event_id, about in found if about is None]
    owed = set(tx.scalars(_OWED_EVENTS, {"ids": notices})) if notices else set()
    gone = [event_id for event_id in notices if event_id not in owed]
    if gone and not _emptied(_announced, tx, gone, is_over):
        return place
    return found[-1].id if len(found) == _LOOK else None


def _stray_pushes(tx: Tx, before: datetime, place: str, is_over: Callable[[], bool]) -> str | None:
    """Sweep pushes whose jobs are gone: a token outlives its job."""
    found = tx.execute(_STRAYS, {"place": place, "aged": earliest("psh", before)}).all()
    if gone := [push_id for push_id, job_id in found if job_id is None]:
        tx.execute(_GONE["push"], {"ids": gone})
    return found[-1].id if len(found) == _LOOK else None


def _old_replays(tx: Tx, before: datetime, place: str, is_over: Callable[[], bool]) -> str | None:
    """Sweep replays that ended; one that still runs is not old."""
    found = tx.execute(_REPLAYS, {"place": place, "aged": earliest("rpl", before)}).all()
    if gone := [replay_id for replay_id, ended in found if ended is not None and ended < before]:
        tx.execute(_GONE["replay"], {"ids": gone})
    return found[-1].id if len(found) == _LOOK else None


def _emptied(
    empty: Callable[[Tx, list[str]], bool], tx: Tx, ids: list[str], is_over: Callable[[], bool]
) -> bool:
    """Delete what belongs to jobs or notices, a little at a time. False if time was up while there was more."""
    while empty(tx, ids):
        if is_over():
            return False
    return True


def _told(tx: Tx, jobs: list[str]) -> bool:
    """Delete some events of jobs, and what was delivered of them. True if there may be more."""
    return _delete_events(tx, _few(tx.execute(_TOLD, {"ids": jobs})))


def _announced(tx: Tx, notices: list[str]) -> bool:
    return _delete_events(tx, _few(tx.execute(_ANNOUNCED, {"ids": notices})))


def _delete_events(tx: Tx, events: list[str]) -> bool:
    """Delete events; if too much belongs to them, some of that. False if there are none."""
    if not events:
        return False
    owed = list(tx.scalars(_DELIVERIES, {"ids": events}))
    if owed:
        if tried := tx.execute(_ATTEMPTS, {"ids": owed}).all():
            last = tried[-1]
            tx.execute(_ATTEMPTED, {"ids": owed, "delivery": last.delivery_id, "n": last.n})
        if len(tried) == _NARROW:
            return True
        tx.execute(_GONE["delivery"], {"ids": owed})
    if len(owed) < _ROWS:
        tx.execute(_GONE["event"], {"ids": events})
    return True


def _pushed(tx: Tx, jobs: list[str]) -> bool:
    if pushes := _few(tx.execute(_PUSHES, {"ids": jobs})):
        tx.execute(_GONE["push"], {"ids": pushes})
    return bool(pushes)


def _noted(tx: Tx, jobs: list[str]) -> bool:
    if notes := list(tx.scalars(_NOTES, {"ids": jobs})):
        tx.execute(_GONE["trace"], {"ids": notes})
    return len(notes) == _NARROW


def _few(found: Iterable[Sequence[Any]]) -> list[str]:
    """Return the first of some (id, bytes): as many as come to `_BYTES`, at least one."""
    few, left = list[str](), _BYTES
    for row_id, size in found:
        if few and size > left:
            break
        few.append(row_id)
        left -= size
    return few


# Built once: putting a statement together costs more than running it.
_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)


def _next(table: sa.Table, *also: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return the statement that looks at the next old rows of a table; ids are in the order of time."""
    old = sa.and_(table.c.id > sa.bindparam("place"), table.c.id < sa.bindparam("aged"))
    return sa.select(table.c.id, *also).where(old).order_by(table.c.id).limit(_LOOK)


def _some(
    of: sa.ColumnElement[str], *columns: sa.ColumnElement[Any], most: int = _ROWS
) -> sa.Select[Any]:
    return sa.select(*columns).where(of.in_(_IDS)).limit(most)


_JOBS = _next(job, job.c.due_at, job.c.finished_at)
_EVENTS = _next(event, event.c.job_id)
_STRAYS = _next(push, job.c.id.label("job")).select_from(
    push.outerjoin(job, job.c.id == push.c.job_id)
)
_REPLAYS = _next(replay, replay.c.finished_at)
_OWED_EVENTS = sa.select(delivery.c.event_id).where(
    delivery.c.event_id.in_(_IDS), delivery.c.due_at.is_not(None)
)
_OWED_JOBS = (
    sa.select(event.c.job_id)
    .join(delivery, delivery.c.event_id == event.c.id)
    .where(event.c.job_id.in_(_IDS), delivery.c.due_at.is_not(None))
)
_TOLD = _some(event.c.job_id, event.c.id, sa.func.length(event.c.body))
_ANNOUNCED = _some(event.c.id, event.c.id, sa.func.length(event.c.body))
_DELIVERIES = _some(delivery.c.event_id, delivery.c.id)
_PUSHES = _some(push.c.job_id, push.c.id, sa.func.length(push.c.body))
# Found first and deleted then: of both in one statement PostgreSQL may make a join, and one that reads the table over
# and over if it believes that it is empty.
_ATTEMPT = (attempt.c.delivery_id, attempt.c.n)
_ATTEMPTS = _some(attempt.c.delivery_id, *_ATTEMPT, most=_NARROW).order_by(*_ATTEMPT)
_ATTEMPTED = sa.delete(attempt).where(
    attempt.c.delivery_id.in_(_IDS),
    sa.tuple_(*_ATTEMPT) <= sa.tuple_(sa.bindparam("delivery"), sa.bindparam("n")),
)
_NOTES = _some(trace.c.job_id, trace.c.id, most=_NARROW)
_GONE = {
    table.name: sa.delete(table).where(table.c.id.in_(_IDS))
    for table in (job, event, delivery, push, replay, trace)
}
#: In the order in which things are swept: what belongs to a job goes with it.
_SWEEPS: Mapping[str, Sweep] = {
    "job": _old_jobs,
    "event": _old_notices,
    "push": _stray_pushes,
    "replay": _old_replays,
}
