"""What is learned about accounts: latencies, lost pushes, and the queries they cost.

Ends of jobs are noted in memory after their commit, and added to the table `latency` every few
seconds: a push costs no statement more. A crash loses these seconds, which matters to no job.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.database.store import Store
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import latency_store
from orchestrator.jobs.latency import Latency, observe
from orchestrator.jobs.latency_store import LatencyKey, Tally, Written
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

#: The change of a number of samples after which a plan is made anew, and keys that have one.
_NEW, _PLANNED = 0.1, 8
#: Seconds by which ticks make a query late, on average.
_TICK = 0.5
#: Keys of an account: callers name models. The jobs of others share one, and are not planned with.
_MOST_KEYS, _OTHER = 200, "other"
#: Jobs that a query found, of which a push may yet come.
_MOST_FOUND = 1000


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
    """The tallies of this process, and what all processes have learned.

    `plans`: this process asks vendors, so it needs the plans of accounts with a `max_missed_delay`.
    """

    def __init__(
        self, store: Store, vendors: Mapping[str, Vendor], clock: Clock, *, plans: bool = True
    ) -> None:
        self._store = store
        self._vendors = vendors
        self._clock = clock
        self._plans = plans
        self._tallies: dict[LatencyKey, Tally] = {}
        #: Tallies of which it is not known that they are stored, and what was written of them.
        self._unsaved: tuple[dict[LatencyKey, Tally], Written] = ({}, {})
        #: Jobs that count as a lost push. An end that another process found stays one.
        self._found: OrderedDict[str, None] = OrderedDict()
        self.learned = Learned()

    def ended(self, row: JobRow, *, ours: bool = False) -> None:
        """Note a job that a push or a status query has ended.

        A verdict that is `ours`, that the vendor lost the task or shows no output, does not tell
        how long the vendor took, nor whether a push was lost.
        """
        vendor = self._vendors.get(row["account"])
        since, until = row["submitted_at"], row["finished_at"]
        known = row["state"] in (JobState.SUCCEEDED, JobState.FAILED)
        if vendor is None or since is None or until is None or not known:
            return
        if row["resolved_by"] not in (Source.PUSH, Source.POLL):
            return
        tally = self._tally(row)
        after, age = _ended_between(row, since, until)
        tally.fixed += fixed_queries(vendor.account.poll, age)
        if ours or (row["error"] and row["error"]["code"] == "output_missing"):
            return
        observe(tally.counts, after, age)
        if row["resolved_by"] == Source.PUSH:
            tally.pushed += 1
        elif vendor.pushes and row["account"] not in self.learned.degraded:
            # While pushes have stopped, losses say nothing about usual days.
            tally.lost += 1
            self._found[row["id"]] = None
            if len(self._found) > _MOST_FOUND:
                self._found.popitem(last=False)

    def asked(self, rows: Sequence[JobRow]) -> None:
        """Note jobs that a vendor was asked about."""
        for row in rows:
            self._tally(row).asked += 1

    def pushed_late(self, row: JobRow) -> None:
        """Note a push about a job that had ended: if a query was just faster, none was lost."""
        if row["id"] in self._found:
            del self._found[row["id"]]
            tally = self._tally(row)
            tally.lost, tally.pushed = tally.lost - 1, tally.pushed + 1

    async def run(self) -> None:
        """Store what was learned, and read what all processes know."""
        tallies, written = self._unsaved
        if not tallies:
            tallies, self._tallies = self._tallies, {}
            self._unsaved = tallies, written
        if tallies:
            try:
                await self._store.write(latency_store.add, tallies, self._clock.now(), written)
            except Unavailable:
                raise
            except Exception:
                # Not tried again: what cannot be stored would keep all that follows from it.
                self._unsaved = ({}, {})
                raise
            self._unsaved = ({}, {})
        before = self.learned
        if not (tallies or self._store.shared or before.degraded or not before.latencies):
            return
        stored = await self._store.read(
            latency_store.load, sorted(self._vendors), self._clock.now()
        )
        made = await asyncio.to_thread(self._planned, stored.latencies, before)
        self.learned = Learned(
            stored.tallies, stored.latencies, stored.losses, made, stored.degraded
        )

    def _tally(self, row: JobRow) -> Tally:
        key = LatencyKey.of(row)
        if key not in self._tallies and key not in self.learned.tallies:
            known = {*self._tallies, *self.learned.tallies}
            if sum(one.account == key.account for one in known) >= _MOST_KEYS:
                key = key._replace(model=_OTHER, capability=_OTHER)
        return self._tallies.setdefault(key, Tally())

    def _planned(
        self, latencies: Mapping[LatencyKey, Latency], before: Learned
    ) -> dict[LatencyKey, tuple[float, QueryPlan]]:
        """Return the plans of accounts with a `max_missed_delay`, and of how many samples each is.

        Those of the models with the most jobs.
        """
        found: dict[LatencyKey, tuple[float, QueryPlan]] = {}
        for name, vendor in self._vendors.items() if self._plans else ():
            delay = vendor.account.poll.max_missed_delay
            mine = [
                (key, one)
                for key, one in latencies.items()
                if delay and key.account == name and one.samples >= RELIABLE
            ]
            most = sorted(mine, key=lambda entry: -entry[1].samples)[:_PLANNED]
            old = [(key, before.plans.get(key), one.samples) for key, one in most]
            if all(plan and abs(plan[0] - samples) <= _NEW * plan[0] for _, plan, samples in old):
                found |= {key: plan for key, plan, _ in old if plan}
            elif delay:
                made = plans([one for _, one in most], delay - _TICK)
                found |= {
                    key: (one.samples, plan) for (key, one), plan in zip(most, made, strict=True)
                }
        return found


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
