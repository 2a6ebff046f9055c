"""Turns: the slots of an account go round the fairness keys of its queued jobs.

A claim takes one job of each key that has due ones, in the order of the keys, from the one after
that which was served last; then a second one of each, and so on. Inside a key the jobs of a higher
priority go first, and then the older ones. Keys that always have due jobs get equal shares,
whatever the number of their jobs, and between two jobs of one key each other one has its turn.

A loose index scan (https://wiki.postgresql.org/wiki/Loose_indexscan) over keys and ranks: it reads
a few entries for each, however many jobs they have, due or not. An account whose queued jobs have
one key and one rank pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database import queue
from orchestrator.database.statements import Statement
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.indexes import QUEUED
from orchestrator.foundation.states import JobState

#: Keys and ranks that a claim looks at in one account: more may all wait for their start.
MOST = 256
#: Before and after every rank.
_FIRST, _PAST = -1000, 1000


class Turn(NamedTuple):
    """The next jobs of an account, in order.

    `passed`: nothing is due as far as this key, and there are more: the next claim begins after it.
    """

    ids: Sequence[str]
    passed: str | None = None


class _Lane(NamedTuple):
    """The queued jobs of one key and rank, and the first of them if it is due."""

    key: str
    rank: int
    number: int
    first: str | None


def ask_accounts(tx: Tx, now: datetime) -> Callable[[], dict[str, bool]]:
    """Ask for the accounts that have due queued jobs, and whether these have turns.

    They have if the queued jobs of the account have several keys or ranks. See `statements.ask`.
    """
    answer = _accounts().ask(tx, {"now": now, "state": JobState.QUEUED})
    return lambda: {account: bool(has_turns) for account, has_turns in answer()}


def next_jobs(tx: Tx, account: str, served: str, share: int, now: datetime) -> Turn:
    """Return up to `share` due queued jobs of an account; `served` is the key served last."""
    start = _scan(tx, account, served, _PAST, share, now)
    lanes = _due(start)[:share]
    if len(lanes) < share and not _is_cut(start):
        start = _scan(tx, account, "", _FIRST, share, now)
        known = {lane.key for lane in lanes}
        lanes += [lane for lane in _due(start) if lane.key not in known][: share - len(lanes)]
    if not lanes:
        return Turn((), start[-1].key if _is_cut(start) else None)
    if len(lanes) == share or _is_cut(start):
        return Turn(_unlocked(tx, [str(lane.first) for lane in lanes], now))
    # Each of the others gets one at least.
    most = share - len(lanes) + 1
    rounds = zip_longest(*(_of_key(tx, account, lane, most, now) for lane in lanes))
    return Turn([one for one in chain.from_iterable(rounds) if one is not None][:share])


def _of_key(tx: Tx, account: str, lane: _Lane | None, most: int, now: datetime) -> list[str]:
    """Return the next jobs of a key, from its first lane with due ones."""
    ids: list[str] = []
    while lane is not None and len(ids) < most:
        key, rank = lane.key, lane.rank
        wanted = {"account": account, "key": key, "rank": rank, "now": now}
        ids += [one for (one,) in _OLDEST(tx, wanted | {"share": most - len(ids)})]
        if len(ids) < most:
            lane = next(iter(_due(_scan(tx, account, key, rank, 1, now, only=True))), None)
    return ids


def _scan(
    tx: Tx, account: str, key: str, rank: int, share: int, now: datetime, *, only: bool = False
) -> list[_Lane]:
    """Return the first lane with a due job of each of up to `share` keys, after a key and a rank.

    `only`: of this key alone. The last one is number `MOST` if there may be more.
    """
    start = {"account": account, "key": key, "rank": rank, "now": now}
    found = _lanes(only)(tx, {**start, "share": share, "most": MOST})
    return [_Lane(*row) for row in found]


def _due(lanes: Sequence[_Lane]) -> list[_Lane]:
    return [lane for lane in lanes if lane.first is not None]


def _is_cut(lanes: Sequence[_Lane]) -> bool:
    return bool(lanes) and lanes[-1].number == MOST


def _unlocked(tx: Tx, ids: list[str], now: datetime) -> list[str]:
    """Lock due queued jobs and return them, without those that another transaction has locked."""
    if tx.dialect.name != "postgresql":
        return ids
    locked = {one for (one,) in _LOCK(tx, {"ids": ids, "now": now})}
    return [one for one in ids if one in locked]


# The statements are built once: that costs more than to run them.
_IS_QUEUED = sa.text(QUEUED)
_ACCOUNT, _KEY = (sa.bindparam(name, type_=sa.String) for name in ("account", "key"))
_RANK, _SHARE = (sa.bindparam(name, type_=sa.Integer) for name in ("rank", "share"))
_NOW = sa.bindparam("now", type_=job.c.due_at.type)
#: The order of the index of queued jobs.
_ORDER = (job.c.account, job.c.state, job.c.fairness_key, job.c.queue_rank, job.c.due_at)
_PLACE = sa.tuple_(job.c.fairness_key, job.c.queue_rank)
_ENTRY = sa.tuple_(job.c.fairness_key, job.c.queue_rank, job.c.due_at)
#: No job is due then: SQLite seeks to the first entry that is not less than a row value, so this
#: one passes a whole lane.
_LATEST = sa.literal(datetime.max.replace(tzinfo=UTC), job.c.due_at.type)


@lru_cache
def _accounts() -> Statement:
    lanes = queue.due_lanes(job.c.account, True)
    account = lanes.selected_columns.lane

    def end(column: sa.Column[Any], *, last: bool) -> sa.ScalarSelect[Any]:
        order = [one.desc() if last else one.asc() for one in _ORDER]
        mine = sa.select(column).where(job.c.account == account, _IS_QUEUED)
        return mine.order_by(*order).limit(1).scalar_subquery()

    differ = (
        end(column, last=False) != end(column, last=True)
        for column in (job.c.fairness_key, job.c.queue_rank)
    )
    return Statement(lanes.add_columns(sa.or_(*differ)))


@lru_cache
def _lanes(only: bool) -> Statement:
    """Return the statement of `_scan`: all of it but `first` is read in the index."""

    def after(column: sa.Column[Any], key: Any, rank: Any) -> sa.ScalarSelect[Any]:
        mine = sa.select(column).where(job.c.account == _ACCOUNT, _IS_QUEUED)
        mine = mine.where(sa.tuple_(key, rank, _LATEST) < _ENTRY)
        if only:
            mine = mine.where(sa.tuple_(_KEY, _PAST) > _PLACE)
        return mine.order_by(*_ORDER).limit(1).scalar_subquery()

    shown = (job.c.fairness_key, job.c.queue_rank, job.c.due_at)
    begin = [after(column, _KEY, _RANK).label(column.name) for column in shown]
    hop = sa.select(*begin, sa.literal(1).label("number")).cte("hop", recursive=True)
    here = hop.c.fairness_key, sa.case((hop.c.due_at <= _NOW, _PAST), else_=hop.c.queue_rank)
    onward = sa.select(*(after(column, *here) for column in shown), hop.c.number + 1)
    most = sa.bindparam("most", type_=sa.Integer)
    hop = hop.union_all(onward.where(hop.c.fairness_key.is_not(None), hop.c.number < most))
    # A sum, since SQLite compares two columns by a rule that its index has not.
    lane = sa.tuple_(hop.c.fairness_key, hop.c.queue_rank + 0)
    first = sa.select(job.c.id).where(job.c.account == _ACCOUNT, _IS_QUEUED, lane <= _PLACE)
    first_due = sa.case((hop.c.due_at <= _NOW, first.order_by(*_ORDER).limit(1).scalar_subquery()))
    found = sa.select(hop.c.fairness_key, hop.c.queue_rank, hop.c.number, first_due)
    found = found.where(hop.c.fairness_key.is_not(None))
    return Statement(found.where(sa.or_(hop.c.due_at <= _NOW, hop.c.number == most)).limit(_SHARE))


# Bounds by several columns, which no other index has: a planner cannot take another.
_OLDEST = Statement(
    sa.select(job.c.id)
    .where(job.c.account == _ACCOUNT, _IS_QUEUED, sa.tuple_(_KEY, _RANK) <= _PLACE)
    .where(sa.tuple_(_KEY, _RANK, _NOW) >= _ENTRY)
    .order_by(*_ORDER)
    .limit(_SHARE)
    .with_for_update(skip_locked=True)
)
_LOCK = Statement(
    sa.select(job.c.id)
    .where(job.c.id.in_(sa.bindparam("ids", expanding=True)), _IS_QUEUED, job.c.due_at <= _NOW)
    .with_for_update(skip_locked=True)
)
