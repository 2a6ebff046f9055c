"""Prometheus gauges counted in the database: along indexes, and not on every scrape."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import delivery, job, subscriber
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import DeliveryState
from orchestrator.vendors.contract import Vendor

log = structlog.get_logger()

#: Counts are cached for so many seconds, or so many times what counting took, if that is more.
_CACHED, _CACHED_TIMES = 5.0, 20.0
#: Seconds that a scrape waits for new counts.
_MAX_WAIT = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Collector):
    """The counts of one instant: jobs by (vendor, state), deliveries by kind.

    `oldest` is the age of the longest overdue delivery, in seconds.
    """

    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    oldest: float = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        live = _gauge("jobs_in_flight", "Jobs that have not ended.", "vendor", "status")
        for labels, count in sorted(self.jobs.items()):
            live.add_metric(labels, count)
        yield live
        owed = "Deliveries that are owed, and due or waiting for their time."
        yield _by_kind("deliveries_pending", owed, self.pending)
        yield _by_kind("dead_letters", "Deliveries that were given up.", self.dead)
        age = "For how long the longest overdue delivery has been due."
        oldest = _gauge("outbox_oldest_age_seconds", age)
        oldest.add_metric([], self.oldest)
        yield oldest


class NoCounts(Collector):
    """No gauges, while the database is unavailable: zeros would be wrong."""

    def collect(self) -> Iterator[Metric]:
        """Yield nothing."""
        return iter(())


def _by_kind(name: str, description: str, counts: Mapping[str, int]) -> GaugeMetricFamily:
    gauge = _gauge(name, description, "kind")
    for kind, count in sorted(counts.items()):
        gauge.add_metric([kind], count)
    return gauge


def _gauge(name: str, description: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orchestrator_{name}", description, labels=labels)


@dataclass(kw_only=True)
class Gauges:
    """The gauges of one process. Concurrent scrapes share one count."""

    store: Store
    clock: Clock
    vendors: Mapping[str, Vendor]

    def __post_init__(self) -> None:
        self._last: Collector = NoCounts()
        self._until = -math.inf
        self._counting: asyncio.Task[None] | None = None

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
            self._last = await self.store.read(_counted, self.vendors, self.clock.now())
        except Unavailable as error:
            log.warning("the database could not be counted", error=str(error))
            self._last = NoCounts()
        finally:
            ended = self.clock.monotonic()
            self._until = ended + max(_CACHED, _CACHED_TIMES * (ended - began))
            self._counting = None


def _counted(tx: Tx, vendors: Mapping[str, Vendor], now: datetime) -> Counted:
    live = Counter[tuple[str, str]]()
    for account, state, count in tx.execute(_LIVE):
        vendor = vendors.get(account)
        live[vendor.name if vendor else "unknown", state] += count
    kinds = {row.id: row.kind for row in tx.execute(_KINDS)}
    pending, dead, oldest = Counter[str](), Counter[str](), 0.0
    for lane, count, due in tx.execute(_PENDING):
        pending[kinds.get(lane, "unknown")] += count
        oldest = max(oldest, (now - due).total_seconds())
    for lane, count in tx.execute(_DEAD):
        dead[kinds.get(lane, "unknown")] += count
    return Counted(live, pending, dead, oldest)


# Each reads one partial index from end to end, and no row.
_LIVE = (
    sa.select(job.c.account, job.c.state, sa.func.count())
    .where(job.c.due_at.is_not(None))
    .group_by(job.c.account, job.c.state)
)
_PENDING = (
    sa.select(delivery.c.subscriber_id, sa.func.count(), sa.func.min(delivery.c.due_at))
    .where(delivery.c.due_at.is_not(None))
    .group_by(delivery.c.subscriber_id)
)
_DEAD = (
    sa.select(delivery.c.subscriber_id, sa.func.count())
    .where(delivery.c.state == sa.literal_column(f"'{DeliveryState.DEAD}'"))
    .group_by(delivery.c.subscriber_id)
)
_KINDS = sa.select(subscriber.c.id, subscriber.c.kind)
