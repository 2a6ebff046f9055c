"""Statistics for charts: the history of one account, and of the whole service with its counts."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.operation import operation
from orchestrator.api.pagination import Query, plain_digits
from orchestrator.database.store import Store, Tx
from orchestrator.foundation.clock import Clock, rfc3339
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import FINAL, Source
from orchestrator.jobs import history
from orchestrator.jobs.history import BOUNDS, Bucket, Latency, Span
from orchestrator.jobs.totals import Totals, totals
from orchestrator.schemas.base import Json, rfc3339_or_none
from orchestrator.vendors.contract import Vendor

#: Counts are cached for so many seconds, or so many times what counting took, if that is more.
_CACHED, _CACHED_TIMES = 2.0, 20.0
#: Seconds beyond that in which they are still shown, while new ones are made.
_SHOWN = 8.0
#: Minutes over which rates are taken.
_RATE_MINUTES = 5


class HistoryQuery(Query):
    """The hours of a history."""

    hours: Annotated[
        int, Field(ge=1, le=168, description="Up to now."), BeforeValidator(plain_digits)
    ] = 24


@operation("Get an account's history", responses={200: schemas.AccountHistory})
async def of_account(context: RequestContext, query: HistoryQuery) -> Response:
    """Its jobs by the time of their creation, and how long the newest ones took.

    However many jobs there are, some thousand are read: a bucket with more is `estimated`.
    """
    runtime, name = context.runtime, context.request.path_params["name"]
    vendor = or_not_found(runtime.vendors.get(name), "account")
    span = Span.of(runtime.clock.now(), query.hours)
    pushing = {name} if vendor.pushes else set()
    shown = await runtime.store.read(_history, name, span, pushing)
    return reply({"object": "account_history", "account": name, **shown})


@dataclass(kw_only=True)
class Statistics:
    """The statistics of all accounts, in one process. Concurrent requests share one count."""

    store: Store
    clock: Clock
    vendors: Mapping[str, Vendor]

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()
        #: The last document for so many hours, and until when it is fresh.
        self._last: dict[int, tuple[float, Json]] = {}
        self._counting: set[asyncio.Task[None]] = set()

    @operation("Get statistics", responses={200: schemas.Stats})
    async def show(self, context: RequestContext, query: HistoryQuery) -> Response:
        """Counts of now, ages of what waits, rates, and the history of all accounts.

        At most some seconds old. As in the history of an account, large buckets are `estimated`.
        """
        until, _ = self._last.get(query.hours, (-math.inf, {}))
        late = self.clock.monotonic() - until
        if late >= _SHOWN:
            await self._count(query.hours)
        elif late >= 0 and not self._counting:
            # Not this request waits, but a later one is shown them.
            task = asyncio.create_task(self._count_in_background(query.hours))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)
        return reply(self._last[query.hours][1])

    async def _count_in_background(self, hours: int) -> None:
        # The next request that finds no counts says that the database is away.
        with contextlib.suppress(Unavailable):
            await self._count(hours)

    async def _count(self, hours: int) -> None:
        async with self._lock:
            began = self.clock.monotonic()
            until, _ = self._last.get(hours, (-math.inf, {}))
            if until > began:
                return
            shown = await self.store.read(self._read, hours, self.clock.now())
            ended = self.clock.monotonic()
            fresh = ended + max(_CACHED, _CACHED_TIMES * (ended - began))
            self._last[hours] = fresh, shown

    def _read(self, tx: Tx, hours: int, now: datetime) -> Json:
        pushing = {name for name, vendor in self.vendors.items() if vendor.pushes}
        recent = Span([now - timedelta(minutes=_RATE_MINUTES)], 60 * _RATE_MINUTES, now)
        (last,) = history.buckets(tx, None, recent, pushing)
        counts = totals(tx, now)
        return {
            "object": "stats",
            "at": rfc3339(now),
            "jobs": dict(counts.jobs),
            "jobs_estimated": counts.estimated,
            "deliveries": {state: counts.deliveries.get(state, 0) for state in _OWED},
            "ages": _ages(counts),
            "rates": _rates(last),
            **_history(tx, None, Span.of(now, hours), pushing),
        }


_OWED = ("pending", "held", "dead")


def _ages(counts: Totals) -> Json:
    return {
        "queued": counts.queued,
        "submitting": counts.submitting,
        "at_vendor": counts.at_vendor,
        "delivery": counts.overdue,
    }


def _rates(last: Bucket) -> Json:
    found = last.by[Source.PUSH], last.by[Source.POLL]
    ended = sum(last.states[state] for state in FINAL)
    return {
        "submitted": last.submitted / _RATE_MINUTES,
        "ended": ended / _RATE_MINUTES,
        "push_share": found[0] / sum(found) if any(found) else None,
    }


def _history(tx: Tx, account: str | None, span: Span, pushing: Collection[str]) -> Json:
    found = history.buckets(tx, account, span, pushing)
    shown = [_counts(bucket) for bucket in found]
    sums: dict[str, int] = {name: sum(one[name] for one in shown) for name in shown[0]}
    return {
        "since": rfc3339(span.starts[0]),
        "until": rfc3339(span.until),
        "bucket_seconds": span.step,
        "buckets": [
            {"at": rfc3339(bucket.start), **counts, "estimated": bucket.estimated}
            for bucket, counts in zip(found, shown, strict=True)
        ],
        "totals": sums,
        "latency": _latency(history.latency(tx, account)),
    }


def _counts(bucket: Bucket) -> dict[str, int]:
    states = bucket.states
    return {
        "submitted": bucket.submitted,
        **{state: states[state] for state in ("succeeded", "failed", "canceled", "expired")},
        "live": sum(count for state, count in states.items() if state not in FINAL),
        "by_push": bucket.by[Source.PUSH],
        "by_poll": bucket.by[Source.POLL],
        "missed": bucket.missed,
        "polls": bucket.polls,
    }


def _latency(found: Latency) -> Json:
    return {
        "samples": len(found.seconds),
        "since": rfc3339_or_none(found.since),
        "until": rfc3339_or_none(found.until),
        **{f"p{share}": found.quantile(share / 100) for share in (50, 95, 99)},
        "counts": _distribution(found.seconds),
    }


def _distribution(seconds: Sequence[float]) -> list[Json]:
    """Return the counts of latencies by upper bound."""
    counts = Counter(next((bound for bound in BOUNDS if one <= bound), None) for one in seconds)
    return [{"le": bound, "count": counts[bound]} for bound in (*BOUNDS, None)]
