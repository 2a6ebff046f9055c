"""Replay: makes deliveries due again, delivers missed events or retries jobs; in bulk, each once.

A replay is a row that is worked off in slices. A slice is one transaction: it locks the row, makes
some deliveries due or creates some jobs, and moves the cursor. So after a crash any process
continues where the last one stopped; no lease is needed, since nothing of a slice outlives its
transaction. A replay that fits in one slice is done when it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
import structlog

from orchestrator.database.bulk import insert
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import replay
from orchestrator.database.tables.rows import JobRow, ReplayRow, fetch
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.replay_contract import Candidate, Sampled, Selection, Share
from orchestrator.engine.replay_retries import RATE, Retries, RetryFilter
from orchestrator.engine.replay_selection import Backfill, Redelivery
from orchestrator.engine.worker import Claimed
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.errors import Problem, Unavailable
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import DeliveryState, ReplayState
from orchestrator.jobs.intake import JobIntake
from orchestrator.jobs.ledger import Ledger
from orchestrator.schemas.replays import request_json
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

#: Replays in progress at the same time in this process.
LIMIT = 1
#: Rows that a slice looks at. It makes most of them due.
SLICE = 500
#: Rows that a preview shows, chunks and rows that it looks at for them, and owners that it names.
SAMPLE, _SAMPLE_CHUNKS, _SAMPLE_ROWS, SHARES = 10, 5, 200, 100
#: Seconds of rest after a slice, at most: as long as the slice took, so that others can write.
_MAX_REST = 1.0
#: Seconds until a slice that raised an error is tried again.
_AFTER_FAULT = 60.0
#: Seconds until the next slice of a replay with a rate: at least, and from when the tick suffices.
_MIN_WAIT, _TICK = 0.01, 1.0


class Step(NamedTuple):
    """A replay after a slice, and the jobs that the slice created.

    `replayed`: the same idempotency key began it before.
    """

    row: ReplayRow
    jobs: Sequence[JobRow] = ()
    replayed: bool = False


class Preview(NamedTuple):
    """A counted replay, to whom most of it belongs, and its first rows."""

    row: ReplayRow
    shares: Sequence[Share]
    sample: Sequence[Sampled]


def new(
    ids: Ids,
    *,
    api_key: str,
    now: datetime,
    subscriber_id: str | None = None,
    event_id: str | None = None,
    status: DeliveryState = DeliveryState.DEAD,
    types: list[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    missed: bool = False,
    jobs: RetryFilter | None = None,
    rate: float | None = None,
    idempotency_key: str | None = None,
) -> ReplayRow:
    """Return a row for `counted`. `missed` needs a subscriber; `rate` is in rows a second."""
    return {
        "id": ids("rpl"),
        "api_key": api_key,
        "idempotency_key": idempotency_key,
        "subscriber_id": subscriber_id,
        "event_id": event_id,
        "status": status,
        "types": types,
        "since": since,
        "until": until,
        "missed": missed,
        "jobs": None if jobs is None else dict(jobs),
        "rate": RATE if jobs is not None and rate is None else rate,
        "state": ReplayState.RUNNING,
        "cursor": "",
        "newest": "",
        "counted": 0,
        "replayed": 0,
        "failed": 0,
        "due_at": now,
        "created_at": now,
        "finished_at": None,
    }


def counted(tx: Tx, row: ReplayRow) -> ReplayRow:
    """Return a new row with its bounds and its count. Changes nothing in the database."""
    bounded = _bounded(tx, row)
    return {**bounded, "counted": selection_of(bounded).count(tx)}


def preview(tx: Tx, row: ReplayRow) -> Preview:
    """Return what a new row would be about. Changes nothing in the database."""
    bounded = _bounded(tx, row)
    selection, ids = selection_of(bounded), list[str]()
    shares = selection.shares(tx)
    for _ in range(_SAMPLE_CHUNKS):
        chunk = selection.next_chunk(tx, _SAMPLE_ROWS)
        ids += [one.id for one in chunk.rows if one.fits]
        if chunk.next is None or len(ids) >= SAMPLE:
            break
        selection = selection_of({**bounded, "cursor": chunk.next})
    sample = selection.sampled(tx, ids[:SAMPLE])
    found: ReplayRow = {**bounded, "counted": sum(share.rows for share in shares)}
    return Preview(found, shares[:SHARES], sample)


def _bounded(tx: Tx, row: ReplayRow) -> ReplayRow:
    cursor, newest = selection_of(row).bounds(tx)
    return {**row, "cursor": cursor, "newest": newest}


def begin(tx: Tx, intake: JobIntake, row: ReplayRow) -> Step:
    """Store a replay and do its first slice. Running this again changes nothing.

    One with the idempotency key of another gets that one. Raises `Problem` if that selects
    something else.
    """
    created = insert(tx.dialect.name, replay).on_conflict_do_nothing()
    if tx.execute(created.returning(replay.c.id), [row]).first():
        return _slice(tx, intake, row, row["created_at"])
    key = sa.and_(
        replay.c.api_key == row["api_key"], replay.c.idempotency_key == row["idempotency_key"]
    )
    # Not by a key that is absent: `IS NULL` finds every replay without one.
    same = sa.select(replay).where(
        replay.c.id == row["id"] if row["idempotency_key"] is None else key
    )
    (found,) = fetch(tx, ReplayRow, same)
    if request_json(found) != request_json(row):
        raise Problem(
            f"Idempotency-Key {row['idempotency_key']!r} was used with another body, for "
            f"{found['id']}; send a new key",
            code="idempotency_key_reused",
            title="Idempotency key reused",
            replay_id=found["id"],
        )
    return Step(found, replayed=found["id"] != row["id"])


def advance(tx: Tx, intake: JobIntake, replay_id: str, now: datetime) -> Step | None:
    """Do the next slice of a replay, or return None if nothing of it is due."""
    # Locked: a second replica finds the cursor where the first left it.
    due = sa.select(replay).where(replay.c.id == replay_id, replay.c.due_at <= now)
    rows = fetch(tx, ReplayRow, due.with_for_update())
    return _slice(tx, intake, rows[0], now) if rows else None


def cancel(tx: Tx, replay_id: str, now: datetime) -> tuple[ReplayRow, bool] | None:
    """Stop a replay. Return it and whether this ended it, or None if there is none."""
    running = sa.and_(replay.c.id == replay_id, replay.c.state == ReplayState.RUNNING)
    values = {"state": ReplayState.CANCELED, "due_at": None, "finished_at": now}
    ended = tx.execute(sa.update(replay).where(running).values(**values)).rowcount > 0
    row = find(tx, replay_id)
    return None if row is None else (row, ended)


def _postpone(tx: Tx, replay_id: str, until: datetime) -> None:
    due = sa.and_(replay.c.id == replay_id, replay.c.due_at.is_not(None))
    tx.execute(sa.update(replay).where(due).values(due_at=until))


def find(tx: Tx, replay_id: str) -> ReplayRow | None:
    """Return a replay, or None."""
    found = fetch(tx, ReplayRow, sa.select(replay).where(replay.c.id == replay_id))
    return found[0] if found else None


def next_due(tx: Tx) -> tuple[str, datetime] | None:
    """Return the id of the replay that is due first, and when; None if there is none."""
    row = tx.execute(_NEXT_DUE).first()
    return None if row is None else (row.id, row.due_at)


_NEXT_DUE = (
    sa.select(replay.c.id, replay.c.due_at)
    .where(replay.c.due_at.is_not(None))
    .order_by(replay.c.due_at)
    .limit(1)
)


def selection_of(row: ReplayRow) -> Selection:
    """Return what a replay is about."""
    if row["jobs"] is not None:
        return Retries(row)
    return Backfill(row) if row["missed"] else Redelivery(row)


def _slice(tx: Tx, intake: JobIntake, row: ReplayRow, now: datetime) -> Step:
    """Make the next rows due and move the cursor."""
    rate, selection = row["rate"], selection_of(row)
    size = min(SLICE, selection.most)
    share = size if rate is None else max(1, min(size, int(rate)))
    chunk = selection.next_chunk(tx, size)
    passed = _within(share, chunk.rows)
    made = selection.make_due(tx, intake, [one for one in passed if one.fits], now)
    following = chunk.next if len(passed) == len(chunk.rows) else passed[-1].id
    values: dict[str, Any] = {
        "replayed": row["replayed"] + made.done,
        "failed": row["failed"] + made.failed,
        "cursor": following or (passed[-1].id if passed else row["cursor"]),
    }
    if following is None:
        values |= {"state": ReplayState.DONE, "due_at": None, "finished_at": now}
    else:
        wait = 0 if rate is None else (made.done + made.failed) / rate
        values["due_at"] = after(now, wait)
    tx.execute(sa.update(replay).where(replay.c.id == row["id"]).values(**values))
    return Step(cast(ReplayRow, {**row, **values}), made.jobs)


def _within(share: int, chunk: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates up to the last that the share has room for."""
    fitting = [at for at, one in enumerate(chunk) if one.fits]
    return chunk if len(fitting) <= share else chunk[: fitting[share - 1] + 1]


def announce(step: Step, notifier: Notifier, metrics: Metrics) -> None:
    """Wake the stage that has work now, and count new jobs."""
    notifier.wake("submit" if step.row["jobs"] is not None else "deliver")
    for created in step.jobs:
        metrics.submitted(created["vendor"], created["model"])


@dataclass(kw_only=True)
class Replayer:
    """The stage that works off replays, one slice at a time."""

    store: Store
    ids: Ids
    keys: Keys
    clock: Clock
    vendors: Mapping[str, Vendor]
    ledger: Ledger
    metrics: Metrics
    notifier: Notifier

    def __post_init__(self) -> None:
        self._intake = JobIntake(
            ids=self.ids, keys=self.keys, clock=self.clock, vendors=self.vendors, ledger=self.ledger
        )
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, room: int) -> Claimed[str]:
        """Find the replay that is due first."""
        found = await self.store.read(next_due)
        if self._timer is not None:
            self._timer.cancel()
        if found is None:
            return Claimed()
        replay_id, due = found
        wait = (due - self.clock.now()).total_seconds()
        if wait <= 0:
            return Claimed([replay_id], more=True)
        if wait < _TICK:
            # The tick alone is too coarse for the slices of a replay with a rate.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wait, _MIN_WAIT), self.notifier.wake, "replay")
        return Claimed()

    async def work(self, replay_id: str) -> None:
        """Do one slice, then rest for as long as it took, so that others can write."""
        started = self.clock.monotonic()
        try:
            step = await self.store.write(advance, self._intake, replay_id, self.clock.now())
        except Unavailable:
            # It is still due. Without a rest it would be tried again at once, in a tight loop.
            await self.clock.sleep(_MAX_REST)
            raise
        except Exception:
            # The others go on before it is tried again.
            await self.store.write(_postpone, replay_id, after(self.clock.now(), _AFTER_FAULT))
            raise
        if step is None:
            return
        announce(step, self.notifier, self.metrics)
        if step.row["state"] == ReplayState.DONE:
            counts = {name: step.row[name] for name in ("replayed", "failed")}
            log.info("a replay is done", replay=replay_id, **counts)
        await self.clock.sleep(min(_MAX_REST, self.clock.monotonic() - started))

    async def give_back(self, replay_ids: Sequence[str]) -> None:
        """Leave replays to the next process: nothing of them was claimed."""
        for replay_id in replay_ids:
            log.info("a replay is left to the next process", replay=replay_id)
