"""Replay: makes deliveries due again, or delivers missed events, in bulk and each once.

A replay is a row that is worked off in slices. A slice is one transaction: it locks the row, makes
some deliveries due, and moves the cursor. So after a crash any process continues where the last one
stopped; no lease is needed, since nothing of a slice outlives its transaction. A replay that fits
in one slice is done when it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
import structlog

from orchestrator.database.bulk import insert
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import replay
from orchestrator.database.tables.rows import ReplayRow, fetch
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.replay_selection import Candidate, selection_of
from orchestrator.engine.worker import Claimed
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, ReplayState

log = structlog.get_logger()

#: Replays in progress at the same time in this process.
LIMIT = 1
#: Rows that a slice looks at. It makes most of them due.
SLICE = 500
#: Seconds of rest after a slice, at most: as long as the slice took, so that others can write.
_MAX_REST = 1.0
#: Seconds until the next slice of a replay with a rate: at least, and from when the tick suffices.
_MIN_WAIT, _TICK = 0.01, 1.0


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
    rate: float | None = None,
) -> ReplayRow:
    """Return a row for `counted`. `missed` needs a subscriber; `rate` is in deliveries a second."""
    return {
        "id": ids("rpl"),
        "api_key": api_key,
        "subscriber_id": subscriber_id,
        "event_id": event_id,
        "status": status,
        "types": types,
        "since": since,
        "until": until,
        "missed": missed,
        "rate": rate,
        "state": ReplayState.RUNNING,
        "cursor": "",
        "newest": "",
        "counted": 0,
        "replayed": 0,
        "due_at": now,
        "created_at": now,
        "finished_at": None,
    }


def counted(tx: Tx, row: ReplayRow) -> ReplayRow:
    """Return a new row with its bounds and its count. Changes nothing in the database."""
    cursor, newest = selection_of(row).bounds(tx)
    bounded: ReplayRow = {**row, "cursor": cursor, "newest": newest}
    return {**bounded, "counted": selection_of(bounded).count(tx)}


def begin(tx: Tx, ids: Ids, row: ReplayRow) -> ReplayRow:
    """Store a replay, do its first slice, and return it. Running this again changes nothing."""
    created = insert(tx.dialect.name, replay).on_conflict_do_nothing(index_elements=["id"])
    if tx.execute(created.returning(replay.c.id), [row]).first():
        return _slice(tx, ids, row, row["created_at"])
    (found,) = fetch(tx, ReplayRow, sa.select(replay).where(replay.c.id == row["id"]))
    return found


def advance(tx: Tx, ids: Ids, replay_id: str, now: datetime) -> ReplayRow | None:
    """Do the next slice of a replay and return it, or None if nothing of it is due."""
    # Locked: a second replica finds the cursor where the first left it.
    due = sa.select(replay).where(replay.c.id == replay_id, replay.c.due_at <= now)
    rows = fetch(tx, ReplayRow, due.with_for_update())
    return _slice(tx, ids, rows[0], now) if rows else None


def cancel(tx: Tx, replay_id: str, now: datetime) -> tuple[ReplayRow, bool] | None:
    """Stop a replay. Return it and whether this ended it, or None if there is none."""
    running = sa.and_(replay.c.id == replay_id, replay.c.state == ReplayState.RUNNING)
    values = {"state": ReplayState.CANCELED, "due_at": None, "finished_at": now}
    ended = tx.execute(sa.update(replay).where(running).values(**values)).rowcount > 0
    row = find(tx, replay_id)
    return None if row is None else (row, ended)


def find(tx: Tx, replay_id: str) -> ReplayRow | None:
    """Return a replay, or None."""
    found = fetch(tx, ReplayRow, sa.select(replay).where(replay.c.id == replay_id))
    return found[0] if found else None


def next_due(tx: Tx) -> tuple[str, datetime] | None:
    """Return the id of the replay that is due first, and when; None if there is none."""
    due = sa.select(replay.c.id, replay.c.due_at).where(replay.c.due_at.is_not(None))
    row = tx.execute(due.order_by(replay.c.due_at).limit(1)).first()
    return None if row is None else (row.id, row.due_at)


def _slice(tx: Tx, ids: Ids, row: ReplayRow, now: datetime) -> ReplayRow:
    """Make the next deliveries due and move the cursor."""
    rate, selection = row["rate"], selection_of(row)
    share = SLICE if rate is None else max(1, min(SLICE, int(rate)))
    # One more than the slice looks at: it tells whether the slice is the last.
    chunk = selection.next_chunk(tx, SLICE + 1)
    passed = _within(share, chunk[:SLICE])
    done = selection.make_due(tx, ids, [one for one in passed if one.fits], now)
    values: dict[str, Any] = {
        "replayed": row["replayed"] + done,
        "cursor": passed[-1].id if passed else row["cursor"],
    }
    if len(passed) == len(chunk):
        values |= {"state": ReplayState.DONE, "due_at": None, "finished_at": now}
    else:
        values["due_at"] = now if rate is None else after(now, done / rate)
    tx.execute(sa.update(replay).where(replay.c.id == row["id"]).values(**values))
    return cast(ReplayRow, {**row, **values})


def _within(share: int, chunk: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates up to the last that the share has room for."""
    fitting = [at for at, one in enumerate(chunk) if one.fits]
    return chunk if len(fitting) <= share else chunk[: fitting[share - 1] + 1]


@dataclass(kw_only=True)
class Replayer:
    """The stage that works off replays, one slice at a time."""

    store: Store
    ids: Ids
    clock: Clock
    notifier: Notifier

    def __post_init__(self) -> None:
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
            row = await self.store.write(advance, self.ids, replay_id, self.clock.now())
        except Exception:
            # It is still due. Without a rest it would be tried again at once, in a tight loop.
            await self.clock.sleep(_MAX_REST)
            raise
        if row is None:
            return
        self.notifier.wake("deliver")
        if row["state"] == ReplayState.DONE:
            log.info("a replay is done", replay=replay_id, replayed=row["replayed"])
        await self.clock.sleep(min(_MAX_REST, self.clock.monotonic() - started))

    async def give_back(self, replay_ids: Sequence[str]) -> None:
        """Leave replays to the next process: nothing of them was claimed."""
        for replay_id in replay_ids:
            log.info("a replay is left to the next process", replay=replay_id)
