"""What Prometheus is told of the database: counted along indexes, and not at every scrape."""

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

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, job, subscriber
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import DeliveryState

log = structlog.get_logger()

#: Seconds for which what was counted is believed; and so many times what it took to count, if that is more.
_BELIEVED, _SHARE = 5.0, 20.0
#: Seconds that a scrape waits for it.
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Counted(Collector):
    """What was counted at an instant: jobs by (vendor, state), deliveries by kind; `oldest`: the longest overdue."""

    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    oldest: float = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield it for Prometheus."""
        live = _gauge("jobs_in_flight", "Jobs that have not ended.", "vendor", "status")
        for labels, count in sorted(self.jobs.items()):
            live.add_metric(labels, count)
        yield live
        for name, says, counts in (
            (
                "deliveries_pending",
                "Deliveries that are owed, and due or waiting for their time.",
                self.pending,
            ),
            ("dead_letters", "Deliveries that were given up.", self.dead),
        ):
            found = _gauge(name, says, "kind")
            for kind, count in sorted(counts.items()):
                found.add_metric([kind], count)
            yield found
        oldest = _gauge(
            "outbox_oldest_age_seconds", "For how long the longest overdue delivery has been due."
        )
        oldest.add_metric([], self.oldest)
        yield oldest


class Nothing(Collector):
    """What is told while the database cannot be asked: zeros would be a lie."""

    def collect(self) -> Iterator[Metric]:
        """Yield nothing."""
        return iter(())


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orchestrator_{name}", says, labels=labels)


class Gauges:
    """One process's: counts at most as often as is worth it, for all who ask."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._vendors = {name: vendor.name for name, vendor in runtime.vendors.items()}
        self._last: Collector = Nothing()
        self._until = -math.inf
        self._counting: asyncio.Task[None] | None = None

    async def now(self) -> Collector:
        """Return what was counted last, anew if that is too long ago and takes no longer than a scrape may wait."""
        if self._counting is None and self._rt.clock.monotonic() >= self._until:
            self._counting = asyncio.create_task(self._count())
        if self._counting is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await asyncio.shield(self._counting)
        return self._last

    async def _count(self) -> None:
        clock = self._rt.clock
        began = clock.monotonic()
        try:
            self._last = await self._rt.store.read(_counted, self._vendors, clock.now())
        except Unavailable as error:
            log.warning("the database could not be counted", error=str(error))
            self._last = Nothing()
        finally:
            ended = clock.monotonic()
            self._until = ended + max(_BELIEVED, _SHARE * (ended - began))
            self._counting = None


def _counted(tx: Tx, vendors: Mapping[str, str], now: datetime) -> Counted:
    live = Counter[tuple[str, str]]()
    for account, state, count in tx.execute(_LIVE):
        live[vendors.get(account, "unknown"), state] += count
    kinds = {row.id: row.kind for row in tx.execute(_KINDS)}
    pending, dead, oldest = Counter[str](), Counter[str](), 0.0
    for lane, count, due in tx.execute(_PENDING):
        pending[kinds.get(lane, "unknown")] += count
        oldest = max(oldest, (now - due).total_seconds())
    for lane, count in tx.execute(_DEAD):
        dead[kinds.get(lane, "unknown")] += count
    return Counted(live, pending, dead, oldest)


# Each reads one partial index from end to end, and no row: what is pending, and what is dead.
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
