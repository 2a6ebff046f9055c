"""The table `latency`: what was learned is added up, fades, and is read by every process."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, job
from orchestrator.database.tables import latency as table
from orchestrator.database.tables.rows import JobRow, LatencyRow, fetch
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import AT_VENDOR
from orchestrator.jobs.latency import Latency, no_counts, observe, remaining
from orchestrator.jobs.query_economy import PushLoss

#: Samples up to which live jobs are counted too, and how many: beyond, they hardly matter.
_MANY, _MOST_LIVE = 5000.0, 2000
#: Seconds after which a row that nothing is added to is deleted, and rows that are read.
_FORGOTTEN, _MOST_ROWS = 14 * 86_400.0, 5000


class LatencyKey(NamedTuple):
    """What has a latency of its own."""

    account: str
    model: str
    capability: str

    @staticmethod
    def of(row: JobRow) -> LatencyKey:
        """Return the key of a job."""
        return LatencyKey(row["account"], row["model"], row["capability"])


@dataclass(slots=True)
class Tally:
    """What was learned of a key. `fixed`: queries that the fixed policy would have needed."""

    counts: list[float] = field(default_factory=no_counts)
    pushed: float = 0.0
    lost: float = 0.0
    asked: float = 0.0
    fixed: float = 0.0

    def add(self, more: Tally, share: float = 1.0) -> None:
        """Keep a share of this, and add another one."""
        pairs = zip(self.counts, more.counts, strict=True)
        self.counts = [one * share + new for one, new in pairs]
        self.pushed = max(0.0, self.pushed * share + more.pushed)
        self.lost = max(0.0, self.lost * share + more.lost)
        self.asked = self.asked * share + more.asked
        self.fixed = self.fixed * share + more.fixed


class Stored(NamedTuple):
    """What all processes have learned about some accounts."""

    tallies: Mapping[LatencyKey, Tally]
    latencies: Mapping[LatencyKey, Latency]
    losses: Mapping[str, PushLoss]
    degraded: frozenset[str]


#: The values that a unit of work wrote, by key.
Written = dict[LatencyKey, Mapping[str, object]]


def add(tx: Tx, tallies: Mapping[LatencyKey, Tally], now: datetime, written: Written) -> None:
    """Unit of work: add tallies to what is stored, and delete what is forgotten.

    `written` is empty at first, and kept for when the unit is run again: a row that still has what
    was written into it was committed, and only the confirmation was lost.
    """
    tx.execute(sa.delete(table).where(table.c.at < after(now, -_FORGOTTEN)))
    for key, tally in sorted(tallies.items()):
        mine = sa.and_(*(table.c[name] == value for name, value in key._asdict().items()))
        empty = {**key._asdict(), **_values(Tally()), "at": now}
        tx.execute(insert(tx.dialect.name, table).on_conflict_do_nothing(), [empty])
        (row,) = fetch(tx, LatencyRow, sa.select(table).where(mine).with_for_update())
        if _is_committed(row, written.get(key)):
            continue
        written[key] = values = _values(_sum(row, tally, now))
        tx.execute(sa.update(table).where(mine).values(**values, at=max(now, row["at"])))


def load(tx: Tx, accounts: Sequence[str], now: datetime) -> Stored:
    """Return what is known about accounts."""
    newest = sa.select(table).where(table.c.account.in_(accounts)).order_by(table.c.at.desc())
    tallies = {
        LatencyKey(row["account"], row["model"], row["capability"]): _sum(row, Tally(), now)
        for row in fetch(tx, LatencyRow, newest.limit(_MOST_ROWS))
    }
    losses: dict[str, PushLoss] = {}
    few: set[str] = set()
    for key, tally in tallies.items():
        lost, pushed = losses.get(key.account, PushLoss())
        losses[key.account] = PushLoss(lost + tally.lost, pushed + tally.pushed)
        few.update([key.account] if sum(tally.counts) < _MANY else [])
    live = {name: _live(tx, name, now) for name in sorted(few)}
    latencies = {
        key: Latency(tally.counts, live.get(key.account, {}).get((key.model, key.capability), ()))
        for key, tally in tallies.items()
    }
    degraded = tx.scalars(sa.select(account_state.c.account).where(account_state.c.degraded))
    return Stored(tallies, latencies, losses, frozenset(degraded))


def _live(tx: Tx, account: str, now: datetime) -> Mapping[tuple[str, str], Sequence[float]]:
    """Return the counts of an account's live jobs by their age, for each model and capability."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(no_counts)
    for model, capability, since in tx.execute(_LIVE, {"account": account}):
        age = max(0.0, (now - since).total_seconds())
        observe(found[model, capability], age, age)
    return found


def _sum(row: LatencyRow, more: Tally, now: datetime) -> Tally:
    """Return what is left of a row by now, and what was learned since.

    Of a row that another version wrote, or no version: only the latter.
    """
    old = Tally(row["counts"], row["pushed"], row["lost"], row["asked"], row["fixed"])
    if not _is_sound(old):
        return more
    old.add(more, remaining(sum(old.counts), (now - row["at"]).total_seconds()))
    return old


def _is_committed(row: LatencyRow, written: Mapping[str, object] | None) -> bool:
    return written is not None and row.items() >= written.items()


def _is_sound(tally: Tally) -> bool:
    values = [*tally.counts, tally.pushed, tally.lost, tally.asked, tally.fixed]
    if len(tally.counts) != len(no_counts()):
        return False
    return all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in values)


def _values(tally: Tally) -> dict[str, object]:
    return {
        "counts": [round(count, 4) for count in tally.counts],
        "pushed": max(0.0, tally.pushed),
        "lost": max(0.0, tally.lost),
        "asked": tally.asked,
        "fixed": tally.fixed,
    }


_LIVE = (
    sa.select(job.c.model, job.c.capability, job.c.submitted_at)
    .where(
        job.c.account == sa.bindparam("account"),
        job.c.state.in_(AT_VENDOR),
        job.c.due_at.is_not(None),
        job.c.submitted_at.is_not(None),
    )
    .limit(_MOST_LIVE)
)
