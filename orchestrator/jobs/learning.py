"""What this process learns about its accounts: latencies, lost pushes, and the queries they cost.

Ends of jobs are noted in memory after their commit, and added to the table `latency` every few
seconds: a push costs no statement more. A crash loses these seconds, which matters to no job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state, job
from orchestrator.database.tables import latency as table
from orchestrator.database.tables.rows import JobRow, LatencyRow, fetch
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.states import AT_VENDOR, JobState, Source
from orchestrator.jobs.latency import Latency, fade, no_counts, observe
from orchestrator.jobs.query_economy import (
    NO_PUSHES,
    RELIABLE,
    STOPPED,
    Expectation,
    PushLoss,
    fixed_queries,
)
from orchestrator.jobs.query_plan import QueryPlan, plans
from orchestrator.vendors.contract import Vendor

#: Samples up to which live jobs are counted too, and how many: beyond, they hardly matter.
_MANY, _MOST_LIVE = 5000.0, 2000
#: The change of a number of samples after which a plan is made anew.
_NEW = 0.1
#: Seconds by which ticks make a query late, on average.
_TICK = 0.5
#: Seconds after the end of a job in which its push was late, and not lost.
_LATE = 60.0


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
    """What was learned since it was last stored. `fixed`: queries of the fixed policy."""

    counts: list[float] = field(default_factory=no_counts)
    pushed: float = 0.0
    lost: float = 0.0
    asked: float = 0.0
    fixed: float = 0.0


@dataclass(frozen=True, slots=True)
class Learned:
    """All that is known about latencies and lost pushes, as of one moment."""

    tallies: Mapping[LatencyKey, Tally] = field(default_factory=dict)
    latencies: Mapping[LatencyKey, Latency] = field(default_factory=dict)
    losses: Mapping[str, PushLoss] = field(default_factory=dict)
    plans: Mapping[LatencyKey, tuple[float, QueryPlan]] = field(default_factory=dict)
    degraded: frozenset[str] = frozenset()

    def loss(self, account: str) -> PushLoss:
        """Return the losses of an account."""
        return self.losses.get(account, PushLoss())

    def expected(self, row: JobRow, vendor: Vendor | None, *, degraded: bool) -> Expectation | None:
        """Return what is expected of a job; None: too little is known, or the policy is fixed."""
        if vendor is None or vendor.account.poll.policy == "fixed":
            return None
        key = LatencyKey.of(row)
        latency = self.latencies.get(key)
        if latency is None or latency.samples < RELIABLE:
            return None
        loss = self.loss(key.account).cautious
        if not vendor.pushes:
            loss = NO_PUSHES
        elif degraded:
            loss = STOPPED
        _, plan = self.plans.get(key, (0.0, None))
        return Expectation(latency, loss, vendor.account.poll.sureness, plan)


class Learning:
    """The tallies of this process, and what all processes have learned."""

    def __init__(self, store: Store, vendors: Mapping[str, Vendor], clock: Clock) -> None:
        self._store = store
        self._vendors = vendors
        self._clock = clock
        self._tallies: dict[LatencyKey, Tally] = {}
        self.learned = Learned()

    def ended(self, row: JobRow) -> None:
        """Note a job that a push or a status query has ended."""
        vendor = self._vendors.get(row["account"])
        since, until = row["submitted_at"], row["finished_at"]
        known = row["state"] in (JobState.SUCCEEDED, JobState.FAILED)
        if vendor is None or since is None or until is None or not known:
            return
        if row["resolved_by"] not in (Source.PUSH, Source.POLL):
            return
        tally = self._tally(LatencyKey.of(row))
        after, age = _ended_between(row, since, until)
        observe(tally.counts, after, age)
        tally.fixed += fixed_queries(vendor.account.poll, age)
        if row["resolved_by"] == Source.PUSH:
            tally.pushed += 1
        elif vendor.pushes and row["account"] not in self.learned.degraded:
            # While pushes have stopped, losses say nothing about usual days.
            tally.lost += 1

    def asked(self, rows: Sequence[JobRow]) -> None:
        """Note jobs that a vendor was asked about."""
        for row in rows:
            self._tally(LatencyKey.of(row)).asked += 1

    def pushed_late(self, row: JobRow) -> None:
        """Note a push about a job that had ended: if a query was just faster, none was lost."""
        ended = row["finished_at"]
        if ended is None or row["resolved_by"] != Source.POLL:
            return
        if (self._clock.now() - ended).total_seconds() < _LATE:
            tally = self._tally(LatencyKey.of(row))
            tally.lost, tally.pushed = tally.lost - 1, tally.pushed + 1

    async def run(self) -> None:
        """Store what was learned, and read what all processes know."""
        tallies, self._tallies = self._tallies, {}
        if tallies:
            await self._store.write(_store, tallies, self._clock.now())
        if tallies or self._store.shared or not self.learned.latencies:
            before = self.learned
            self.learned = await self._store.read(_load, self._vendors, before, self._clock.now())

    def _tally(self, key: LatencyKey) -> Tally:
        return self._tallies.setdefault(key, Tally())


def _ended_between(row: JobRow, since: datetime, until: datetime) -> tuple[float, float]:
    """Return the ages between which a job ended: equal for a push.

    A query that finds the end shows only that it came after the last report. Most vendors tell when
    the task last changed.
    """
    age = max(0.0, (until - since).total_seconds())
    if row["resolved_by"] == Source.PUSH:
        return age, age
    alive, changed = row["alive_at"], row["vendor_updated_at"]
    after = 0.0 if alive is None else min(age, max(0.0, (alive - since).total_seconds()))
    stated = -1.0 if changed is None else (changed - since).total_seconds()
    return (stated, stated) if after < stated <= age else (after, age)


def _store(tx: Tx, tallies: Mapping[LatencyKey, Tally], now: datetime) -> None:
    """Unit of work: add tallies to what is stored, which fades."""
    for key, tally in sorted(tallies.items()):
        mine = sa.tuple_(*(table.c[name] for name in key._fields)) == sa.tuple_(*key)
        empty = {**key._asdict(), **_values(Tally()), "at": now}
        tx.execute(insert(tx.dialect.name, table).on_conflict_do_nothing(), [empty])
        (row,) = fetch(tx, LatencyRow, sa.select(table).where(mine).with_for_update())
        values = _values(_sum(row, tally, now)) | {"at": max(now, row["at"])}
        tx.execute(sa.update(table).where(mine).values(**values))


def _sum(row: LatencyRow, more: Tally, now: datetime) -> Tally:
    """Return what is left of a row by now, and what was learned since."""
    gone = (now - row["at"]).total_seconds()
    counts = [fade(one, gone) + new for one, new in zip(row["counts"], more.counts, strict=True)]
    return Tally(
        counts,
        fade(row["pushed"], gone) + more.pushed,
        max(0.0, fade(row["lost"], gone) + more.lost),
        fade(row["asked"], gone) + more.asked,
        fade(row["fixed"], gone) + more.fixed,
    )


def _values(tally: Tally) -> dict[str, object]:
    return {
        "counts": [round(count, 4) for count in tally.counts],
        "pushed": tally.pushed,
        "lost": tally.lost,
        "asked": tally.asked,
        "fixed": tally.fixed,
    }


def _load(tx: Tx, vendors: Mapping[str, Vendor], before: Learned, now: datetime) -> Learned:
    """Return what is known about the accounts that are configured."""
    rows = [row for row in fetch(tx, LatencyRow, sa.select(table)) if row["account"] in vendors]
    tallies = {
        LatencyKey(row["account"], row["model"], row["capability"]): _sum(row, Tally(), now)
        for row in rows
    }
    losses: dict[str, PushLoss] = {}
    latencies: dict[LatencyKey, Latency] = {}
    for key, tally in tallies.items():
        lost, pushed = losses.get(key.account, PushLoss())
        losses[key.account] = PushLoss(lost + tally.lost, pushed + tally.pushed)
        is_censored = RELIABLE <= sum(tally.counts) < _MANY
        latencies[key] = Latency(tally.counts, _live(tx, key, now) if is_censored else ())
    degraded = tx.scalars(sa.select(account_state.c.account).where(account_state.c.degraded))
    made = _plans(vendors, latencies, before)
    return Learned(tallies, latencies, losses, made, frozenset(degraded))


def _live(tx: Tx, key: LatencyKey, now: datetime) -> list[float]:
    """Return the counts of live jobs by their age."""
    counts = no_counts()
    for since in tx.scalars(_LIVE, key._asdict()):
        age = max(0.0, (now - since).total_seconds())
        observe(counts, age, age)
    return counts


def _plans(
    vendors: Mapping[str, Vendor], latencies: Mapping[LatencyKey, Latency], before: Learned
) -> dict[LatencyKey, tuple[float, QueryPlan]]:
    """Return the plans of accounts with a `max_missed_delay`, with the samples that they are of."""
    found: dict[LatencyKey, tuple[float, QueryPlan]] = {}
    for name, vendor in vendors.items():
        delay = vendor.account.poll.max_missed_delay
        mine = {key: one for key, one in latencies.items() if key.account == name}
        reliable = {key: one for key, one in mine.items() if one.samples >= RELIABLE}
        if delay is None or not reliable:
            continue
        old = {key: before.plans.get(key) for key in reliable}
        if all(one and _is_recent(one[0], reliable[key]) for key, one in old.items()):
            found |= {key: one for key, one in old.items() if one}
            continue
        made = plans([*reliable.values()], max(delay - _TICK, 1.0))
        found |= {
            key: (one.samples, plan)
            for (key, one), plan in zip(reliable.items(), made, strict=True)
        }
    return found


def _is_recent(samples: float, latency: Latency) -> bool:
    return abs(latency.samples - samples) <= _NEW * samples


_LIVE = (
    sa.select(job.c.submitted_at)
    .where(
        job.c.account == sa.bindparam("account"),
        job.c.state.in_(AT_VENDOR),
        job.c.due_at.is_not(None),
        job.c.model == sa.bindparam("model"),
        job.c.capability == sa.bindparam("capability"),
        job.c.submitted_at.is_not(None),
    )
    .limit(_MOST_LIVE)
)
