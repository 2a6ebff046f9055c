"""Prometheus gauges of the database's counts, which are not made on every scrape."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.api.account_learning import learned_json
from orchestrator.api.database_counts import Counts, LaneCounts, count
from orchestrator.database.store import Store
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.settings import Settings
from orchestrator.jobs.learning import Learning
from orchestrator.schemas.base import Json
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

#: Counts are cached for so many seconds, or so many times what counting took, if that is more.
_CACHED, _CACHED_TIMES = 5.0, 20.0
#: Seconds that a scrape waits for new counts.
_MAX_WAIT = 1.0
#: Subscribers with a label of their own; the others are `other`. Callers name hosts.
_SUBSCRIBERS = 50
_OTHER = "other"
#: Models of an account whose latency has a label.
_MODELS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Collector):
    """The gauges of some counts. `vendors` names the vendor of each account."""

    counts: Counts = field(default_factory=Counts)
    vendors: Mapping[str, str] = field(default_factory=dict)
    learned: Mapping[str, Json] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from self._of_jobs()
        yield from self._of_accounts()
        yield from self._of_learned()
        yield from self._of_kinds()
        yield from self._of_subscribers()
        sizes = {"database_size_bytes": self.counts.size, "disk_free_bytes": self.counts.disk_free}
        for name, size in sizes.items():
            yield _gauge(name, _SIZES[name], [] if size is None else [((), size)])

    def _of_jobs(self) -> Iterator[Metric]:
        by_vendor, by_account, oldest = Counter[Labels](), Counter[Labels](), dict[Labels, float]()
        for live in self.counts.jobs:
            account = (live.account, live.state)
            by_vendor[self.vendors.get(live.account, "unknown"), live.state] += live.count
            by_account[account] += live.count
            oldest[account] = live.oldest
        labels = ("account", "status")
        text = "Jobs that have not ended."
        yield _gauge("jobs_in_flight", text, by_vendor.items(), "vendor", "status")
        yield _gauge("account_jobs", f"{text[:-1]}, by account.", by_account.items(), *labels)
        age = "Since the oldest job of an account that has not ended was created, or was to start."
        yield _gauge("account_oldest_job_age_seconds", age, oldest.items(), *labels)

    def _of_accounts(self) -> Iterator[Metric]:
        known = [account for account in self.counts.accounts if account.name in self.vendors]
        text = "1 while the vendor limits submissions."
        paused = {(account.name,): account.paused for account in known}
        yield _gauge("account_paused", text, paused.items(), "account")
        text = "1 while no job is submitted, since the vendor refuses the account."
        held = {(account.name, account.held): 1 for account in known if account.held}
        yield _gauge("account_held", text, held.items(), "account", "reason")
        text = "1 while pushes go missing."
        degraded = {(account.name,): account.degraded for account in known}
        yield _gauge("account_push_degraded", text, degraded.items(), "account")
        refused = CounterMetricFamily(
            "orchestrator_pushes_refused",
            "Pushes refused for their signature.",
            labels=("account", "reason"),
        )
        for account in known:
            for reason, number in account.refused.items():
                refused.add_metric((account.name, reason), number)
        yield refused

    def _of_learned(self) -> Iterator[Metric]:
        """Yield what was learned of accounts, and of their models that have the most jobs."""
        texts = {
            "push_loss": "The estimated share of pushes that are lost.",
            "polls_per_job": "Status queries per job that ended, of the last days.",
        }
        for name, text in texts.items():
            known = {(at,): one[name] for at, one in self.learned.items() if one[name] is not None}
            yield _gauge(f"account_{name}", text, known.items(), "account")
        latencies = {
            (account, model, f"0.{share}"): found[f"p{share}"]
            for account, one in self.learned.items()
            for model, found in one["latency"].items()
            for share in (50, 95, 99)
            if found[f"p{share}"] is not None
        }
        text = "From submission to the end of a job, as learned."
        labels = ("account", "model", "quantile")
        yield _gauge("job_latency_seconds", text, latencies.items(), *labels)

    def _of_kinds(self) -> Iterator[Metric]:
        pending, dead, oldest = Counter[Labels](), Counter[Labels](), 0.0
        for lane in self.counts.lanes:
            # Callback URLs get webhooks.
            kind = ("webhook" if lane.kind == "callback" else lane.kind,)
            if lane.pending:
                pending[kind] += lane.pending
            if lane.dead:
                dead[kind] += lane.dead
            oldest = max(oldest, lane.overdue)
        owed = "Deliveries that are owed, and due or waiting for their time."
        yield _gauge("deliveries_pending", owed, pending.items(), "kind")
        yield _gauge("dead_letters", "Deliveries that were given up.", dead.items(), "kind")
        age = "For how long the longest overdue delivery has been due."
        yield _gauge("outbox_oldest_age_seconds", age, [((), oldest)])

    def _of_subscribers(self) -> Iterator[Metric]:
        labels, lanes = ("subscriber", "kind"), _few(self.counts.lanes)
        for name, (text, value) in _BY_SUBSCRIBER.items():
            values = {(lane.id, lane.kind): getattr(lane, value) for lane in lanes}
            yield _gauge(f"subscriber_{name}", text, values.items(), *labels)


class NoCounts(Collector):
    """No gauges, while the database is unavailable: zeros would be wrong."""

    def collect(self) -> Iterator[Metric]:
        """Yield nothing."""
        return iter(())


Labels = tuple[str, ...]
_SIZES = {
    "database_size_bytes": "The size of the database, of SQLite with its log.",
    "disk_free_bytes": "Free bytes on the disk of a SQLite database.",
}
_BY_SUBSCRIBER = {
    "deliveries_pending": ("Deliveries that are owed to a subscriber.", "pending"),
    "deliveries_later": ("Those that wait for their next attempt, or are in one.", "later"),
    "oldest_due_seconds": ("For how long the longest overdue one has been due.", "overdue"),
    "failing_seconds": ("For how long every attempt has failed.", "failing"),
    "dead_letters": ("Deliveries to a subscriber that were given up.", "dead"),
}


def _few(lanes: Iterable[LaneCounts]) -> list[LaneCounts]:
    """Return the subscribers with a label of their own, and the sum of the others.

    The ones that fail, and then those with the most pending deliveries, come first.
    """
    ranked = sorted(lanes, key=lambda lane: (-lane.failing, -lane.pending, -lane.dead, lane.id))
    few, rest = ranked[:_SUBSCRIBERS], ranked[_SUBSCRIBERS:]
    if not rest:
        return few
    others = LaneCounts(_OTHER, _OTHER)
    for lane in rest:
        others = replace(
            others,
            pending=others.pending + lane.pending,
            later=others.later + lane.later,
            dead=others.dead + lane.dead,
            overdue=max(others.overdue, lane.overdue),
            failing=max(others.failing, lane.failing),
        )
    return [*few, others]


def _gauge(
    name: str, text: str, values: Iterable[tuple[Labels, float]], *labels: str
) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"orchestrator_{name}", text, labels=labels)
    for key, value in sorted(values):
        gauge.add_metric(key, value)
    return gauge


@dataclass(kw_only=True)
class Gauges:
    """The gauges of one process. Concurrent scrapes share one count."""

    store: Store
    clock: Clock
    vendors: Mapping[str, Vendor]
    settings: Settings
    learning: Learning

    def __post_init__(self) -> None:
        self._last: Collector = NoCounts()
        self._until = -math.inf
        self._counting: asyncio.Task[None] | None = None
        self._names = {account: vendor.name for account, vendor in self.vendors.items()}

    async def now(self) -> Collector:
        """Return the last counts, new ones if those are stale and counting is quick enough."""
        if self._counting is None and self.clock.monotonic() >= self._until:
            self._counting = asyncio.create_task(self._count())
        if self._counting is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MAX_WAIT):
                    await asyncio.shield(self._counting)
        return self._last

    async def _count(self) -> None:
        began = self.clock.monotonic()
        try:
            counts = await self.store.read(count, self.clock.now(), self.settings.database_file)
            learned = self.learning.learned
            vendors = self.vendors.items()
            known = {name: learned_json(learned, one, _MODELS) for name, one in vendors}
            self._last = Counted(counts, self._names, known)
        except Unavailable as error:
            log.warning("the database could not be counted", error=str(error))
            self._last = NoCounts()
        finally:
            ended = self.clock.monotonic()
            self._until = ended + max(_CACHED, _CACHED_TIMES * (ended - began))
            self._counting = None
