"""Replaying: what subscribers did not get is made due again, or owed at last, in bulk and each of it once.

A replay is a row, worked off in slices. A slice is one transaction: it locks the row, makes some deliveries due, and
moves the cursor past them. So a process may die anywhere and any other one goes on exactly there; no lease is needed,
since nothing of a slice outlives its transaction. What fits in one slice is done when the replay is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, replay
from orchestrator.engine import replay_selection
from orchestrator.engine.replay_selection import Candidate
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.worker import Claimed, Worker
from orchestrator.foundation.clock import after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, ReplayState

log = structlog.get_logger()

Row = Mapping[Any, Any]
Values = dict[str, Any]

#: Rows that a slice looks at, most of which it makes due.
SLICE = 500
#: Seconds that a slice is followed by at most, in which others write: as long as it took.
_LONGEST_REST = 1.0
#: Seconds after which the next slice of a replay with a rate is looked for, at least; and from when on the tick does.
_SOONEST, _TICK = 0.01, 1.0


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
) -> Values:
    """Return a row for `counted` and `begin`. `missed` needs a subscriber; `rate` is in deliveries a second."""
    return {
        "id": ids("rpl"), "api_key": api_key, "subscriber_id": subscriber_id, "event_id": event_id, "status": status,
        "types": types, "since": since, "until": until, "missed": missed, "rate": rate, "state": ReplayState.RUNNING,
        "replayed": 0, "due_at": now, "created_at": now, "finished_at": None,
    }  # fmt: skip


def counted(tx: Tx, row: Values) -> Values:
    """Return a new row with what it is about: where it begins and ends, and how much that is. Changes nothing."""
    bounded = row | replay_selection.bounds(tx, row)
    return bounded | {"counted": replay_selection.count(tx, bounded)}


def begin(tx: Tx, ids: Ids, row: Values) -> Row:
    """Keep a replay and do its first slice; return it as it then is. Run again, it leaves the replay as it is."""
    statement = (
        insert(tx.dialect.name, replay)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(replay.c.id)
    )
    made = tx.execute(statement, [row]).first()
    return _slice(tx, ids, row, row["created_at"]) if made else _get(tx, row["id"])


def advance(tx: Tx, ids: Ids, replay_id: str, now: datetime) -> Row | None:
    """Do the next slice of a replay and return it as it then is; None if nothing of it is due."""
    # Two replicas take turns: the second one finds the cursor where the first one left it.
    due = (
        sa.select(replay).where(replay.c.id == replay_id, replay.c.due_at <= now).with_for_update()
    )
    row = tx.execute(due).mappings().first()
    return None if row is None else _slice(tx, ids, row, now)


def cancel(tx: Tx, replay_id: str, now: datetime) -> tuple[Row, bool] | None:
    """Stop a replay; return it, and whether that ended it. None if there is none."""
    running = sa.and_(replay.c.id == replay_id, replay.c.state == ReplayState.RUNNING)
    end = {"state": ReplayState.CANCELED, "due_at": None, "finished_at": now}
    ended = tx.execute(sa.update(replay).where(running).values(**end)).rowcount > 0
    row = find(tx, replay_id)
    return None if row is None else (row, ended)


def find(tx: Tx, replay_id: str) -> Row | None:
    """Return a replay, or None."""
    return tx.execute(sa.select(replay).where(replay.c.id == replay_id)).mappings().first()


def _get(tx: Tx, replay_id: str) -> Row:
    return tx.execute(sa.select(replay).where(replay.c.id == replay_id)).mappings().one()


def _slice(tx: Tx, ids: Ids, row: Row, now: datetime) -> Row:
    """Make due what comes next, and move the cursor past it."""
    share = SLICE if row["rate"] is None else max(1, min(SLICE, int(row["rate"])))
    # One more than it goes through tells whether it is the last one.
    looked = replay_selection.ahead(tx, row, SLICE + 1)
    passed = _passed(looked[:SLICE], share)
    chosen = [one for one in passed if one.fits]
    done = _owe(tx, ids, row, chosen, now) if row["missed"] else _renew(tx, row, chosen, now)
    values: Values = {
        "replayed": row["replayed"] + done,
        "cursor": passed[-1].id if passed else row["cursor"],
    }
    if len(passed) == len(looked):
        values |= {"state": ReplayState.DONE, "due_at": None, "finished_at": now}
    else:
        values["due_at"] = now if row["rate"] is None else after(now, done / row["rate"])
    tx.execute(sa.update(replay).where(replay.c.id == row["id"]).values(**values))
    return {**row, **values}


def _passed(looked: Sequence[Candidate], share: int) -> Sequence[Candidate]:
    """Return the candidates up to the last one of which there is room for."""
    places = [at for at, one in enumerate(looked) if one.fits]
    return looked if len(places) <= share else looked[: places[share - 1] + 1]


def _renew(tx: Tx, row: Row, chosen: Sequence[Candidate], now: datetime) -> int:
    """Make deliveries due; return how many. For a subscriber that is off they are held, and flow when it is on."""
    done = 0
    for flows in (True, False):
        some = [one.id for one in chosen if one.flows is flows]
        mine = sa.and_(delivery.c.id.in_(some), *replay_selection.standing(row))
        if some:
            done += tx.execute(
                sa.update(delivery).where(mine).values(**_state(flows, now), done_at=None)
            ).rowcount
    return done


def _state(flows: bool, now: datetime) -> Values:
    if flows:
        return {"state": DeliveryState.PENDING, "due_at": now}
    return {"state": DeliveryState.HELD, "due_at": None}


def _owe(tx: Tx, ids: Ids, row: Row, chosen: Sequence[Candidate], now: datetime) -> int:
    """Make deliveries of missed events; return how many. An event that is owed by now is left as it is."""
    rows = [
        {"id": made, "event_id": one.id, "subscriber_id": row["subscriber_id"], "lease": 0, "tries": 0,
         "created_at": now, **_state(one.flows, now)}
        for made, one in zip(ids.many("dlv", len(chosen)), chosen, strict=True)
    ]  # fmt: skip
    if not rows:
        return 0
    statement = insert(tx.dialect.name, delivery).on_conflict_do_nothing().returning(delivery.c.id)
    return len(tx.scalars(statement, rows).all())


def next_due(tx: Tx) -> Row | None:
    """Return the replay that is due first, with when that is; None if none is."""
    first = (
        sa.select(replay.c.id, replay.c.due_at)
        .where(replay.c.due_at.is_not(None))
        .order_by(replay.c.due_at)
    )
    return tx.execute(first.limit(1)).mappings().first()


class Replayer:
    """The stage, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._again: asyncio.TimerHandle | None = None

    async def take(self, room: int) -> Claimed[str]:
        """Find the replay that is due first."""
        row = await self.runtime.store.read(next_due)
        if self._again is not None:
            self._again.cancel()
        wait = 0.0 if row is None else (row["due_at"] - self.runtime.clock.now()).total_seconds()
        if row is None or wait > 0:
            if 0 < wait < _TICK:
                # The tick alone would come late for every slice of a replay with a rate.
                loop = asyncio.get_running_loop()
                self._again = loop.call_later(max(wait, _SOONEST), self.runtime.wake, "replay")
            return Claimed()
        return Claimed([row["id"]], more=True)

    async def work(self, replay_id: str) -> None:
        """Do one slice, and let others write for as long as it took."""
        clock = self.runtime.clock
        started = clock.monotonic()
        try:
            row = await self.runtime.store.write(advance, self.runtime.ids, replay_id, clock.now())
        except Exception:
            # It is due still, and would be begun again at once, over and over.
            await clock.sleep(_LONGEST_REST)
            raise
        if row is None:
            return
        self.runtime.wake("deliver")
        if row["state"] == ReplayState.DONE:
            log.info("a replay is done", replay=replay_id, replayed=row["replayed"])
        await clock.sleep(min(_LONGEST_REST, clock.monotonic() - started))

    async def give_back(self, found: Sequence[str]) -> None:
        """Leave replays to the next process: nothing of them was claimed."""
        for replay_id in found:
            log.info("a replay is left to the next process", replay=replay_id)


def worker(runtime: Runtime) -> Worker[str]:
    """Return the loop that replays."""
    stage = Replayer(runtime)
    return Worker("replay", limit=1, take=stage.take, work=stage.work, give_back=stage.give_back)
