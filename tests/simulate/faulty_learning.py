"""Faulty replacements for parts of what is learned, used by `planted_faults`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import latency
from orchestrator.database.tables.rows import JobRow, LatencyRow, fetch
from orchestrator.engine.notifier import Notifier
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import latency_store
from orchestrator.jobs.latency_store import LatencyKey, Tally
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import ApplyResult
from orchestrator.jobs.query_economy import Expectation

_run, _ended, _announce = Learning.run, Learning.ended, Notifier.announce


def announce_with_each_report(self: Notifier, results: Sequence[ApplyResult]) -> None:
    """Announce the state after all reports of a transaction with each of them that moved it."""
    state = [JobState(one.job["state"]) if one.job and one.moved else None for one in results]
    moved = [one._replace(moved=now) for one, now in zip(results, state, strict=True)]
    _announce(self, moved)


def one_key_for_all_models(row: JobRow) -> LatencyKey:
    return LatencyKey(row["account"], "kling-v3", row["capability"])


def learn_from_any_end(self: Learning, row: JobRow, *, ours: bool = False) -> None:
    vendors = JobRow(**{**row, "state": JobState.SUCCEEDED, "resolved_by": Source.POLL})
    _ended(self, vendors if row["state"] == JobState.EXPIRED else row, ours=ours)


def learn_from_verdicts_of_ours(self: Learning, row: JobRow, *, ours: bool = False) -> None:
    _ended(self, JobRow(**{**row, "error": None}))


async def read_then_write(self: Learning) -> None:
    """Read in one transaction, and write in another one."""
    rows = await self._store.read(_stored)
    tallies, self._tallies = self._tallies, {}
    if tallies:
        await self._store.write(_overwrite, rows, tallies, self._clock.now())
    await _run(self)


def _overwrite(
    tx: Tx,
    rows: Mapping[LatencyKey, LatencyRow],
    tallies: Mapping[LatencyKey, Tally],
    now: datetime,
) -> None:
    latency_store.add(tx, tallies, now, {})
    for key in tallies.keys() & rows.keys():
        mine = sa.and_(*(latency.c[name] == one for name, one in key._asdict().items()))
        total = latency_store._values(latency_store._sum(rows[key], tallies[key], now))
        tx.execute(sa.update(latency).where(mine).values(**total))


def _stored(tx: Tx) -> dict[LatencyKey, LatencyRow]:
    rows = fetch(tx, LatencyRow, sa.select(latency))
    return {LatencyKey(row["account"], row["model"], row["capability"]): row for row in rows}


async def forget_what_was_not_stored(self: Learning) -> None:
    try:
        await _run(self)
    except Unavailable:
        self._unsaved = ({}, {})
        raise


def next_query_without_bound(self: Expectation, age: float, max_interval: float) -> float | None:
    found = self._economical(age)
    return None if found is None else max(found, age + 5)
