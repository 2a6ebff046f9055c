"""The history of jobs for charts: counts over time, and the latency of the newest jobs.

A chart of a day may be about a million jobs. So each of its buckets is counted in the index of
ids, up to `COUNTED`. Then its jobs are read: all of them, or half of `ROWS` if the chart has more
than `ROWS`, and then the parts of a bucket are those of its first jobs. A count beyond `COUNTED` is
estimated from the share of its time that the counted ones cover.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job, trace
from orchestrator.foundation.clock import EPOCH, epoch_ms
from orchestrator.foundation.ids import earliest, made_at
from orchestrator.foundation.states import FINAL, JobState, Source

#: Jobs that a chart reads, and of these the jobs whose status queries it counts.
ROWS, _QUERIED = 2000, 100
#: Jobs of a bucket that are counted exactly.
COUNTED = 500
#: Status queries of one job that are counted.
_MOST_QUERIES = 40
#: Jobs that a distribution of latency reads.
LATENCY_ROWS = 1000
#: Seconds of a bucket: the shortest with which a chart has so many, and one that goes on.
_STEPS, _MOST_BUCKETS = (60, 300, 900, 1800, 3600, 7200, 14_400), 48
#: Upper bounds of the counts of latencies, in seconds: four a decade, from one second to a day.
BOUNDS = tuple(round(10 ** (n / 4), 3) for n in range(21))


class _Job(NamedTuple):
    #: The index of its bucket.
    bucket: int
    id: str
    account: str
    state: str
    resolved_by: str | None


class _Times(NamedTuple):
    state: str
    created_at: datetime
    submitted_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Span:
    """The time of a chart, in buckets of `step` seconds. All but the last one are complete."""

    starts: Sequence[datetime]
    step: int
    until: datetime

    @staticmethod
    def of(now: datetime, hours: int) -> Span:
        """Return the buckets of the last hours; the first begins before them, or with them."""
        seconds = hours * 3600
        step = next(step for step in _STEPS if seconds <= step * _MOST_BUCKETS)
        last = epoch_ms(now) // 1000 // step * step
        count = -(-seconds // step) + 1
        firsts = (last - step * (count - 1 - n) for n in range(count))
        return Span([EPOCH + timedelta(seconds=first) for first in firsts], step, now)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Counts of the jobs that were created in a bucket, as they are now."""

    start: datetime
    submitted: int
    states: Counter[str]
    by: Counter[str]
    missed: int
    polls: int
    estimated: bool


class Latency(NamedTuple):
    """Seconds from submission to success, of the newest jobs: sorted; and what they cover."""

    seconds: Sequence[float]
    since: datetime | None
    until: datetime | None

    def quantile(self, share: float) -> float | None:
        """Return a quantile (nearest rank); None without jobs."""
        if not self.seconds:
            return None
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def buckets(tx: Tx, account: str | None, span: Span, pushing: Collection[str]) -> list[Bucket]:
    """Return the buckets of a span, of one account or of all.

    `pushing` are the accounts whose vendors push: a completion of theirs that a status query found
    is a missed push.
    """
    bounds = [*span.starts, span.starts[-1] + timedelta(seconds=span.step)]
    values: dict[str, Any] = {f"at_{n}": earliest("job", at) for n, at in enumerate(bounds)}
    values |= {"account": account, "counted": COUNTED, "one": 1}
    shape = len(span.starts), account is not None
    counted = tx.execute(_counts_of_buckets(*shape), values).all()
    totals = [_total(span.starts[number], *counts) for number, *counts in counted]
    most = _most_of_each([count for _, count, *_ in counted])
    values |= {f"most_{number}": most for number in range(len(counted))}
    rows: list[list[_Job]] = [[] for _ in span.starts]
    for row in sorted(_Job(*row) for row in tx.execute(_in_buckets(*shape), values).all()):
        rows[row.bucket].append(row)
    queries = _queries(tx, [row for some in rows for row in some])
    return [
        _bucket(start, some, total, pushing, queries)
        for start, some, total in zip(span.starts, rows, totals, strict=True)
    ]


def _most_of_each(counts: Sequence[int]) -> int:
    """Return how many jobs of each bucket are read: all, or of all together half of `ROWS`."""
    if sum(counts) <= ROWS:
        return max(counts)
    most, left = 0, ROWS // 2
    for place, count in enumerate(sorted(counts)):
        share = left // (len(counts) - place)
        if count > share:
            return max(1, share)
        most, left = count, left - count
    return most


def _total(start: datetime, count: int, last_counted: str | None, last: str | None) -> int:
    """Return how many jobs a bucket has: exactly, or estimated if they are many."""
    if count < COUNTED or last_counted is None or last is None:
        return count
    counted = (made_at(last_counted) - start).total_seconds()
    all_of_it = (made_at(last) - start).total_seconds()
    return int(count * max(1.0, all_of_it / max(0.001, counted)))


def _bucket(
    start: datetime,
    rows: Sequence[_Job],
    total: int,
    pushing: Collection[str],
    queries: dict[str, int],
) -> Bucket:
    factor = total / max(1, len(rows))
    known = [row for row in rows if row.id in queries]

    def scaled(count: float) -> int:
        return round(count * factor)

    def counted(value_of: Callable[[_Job], str | None]) -> Counter[str]:
        counts = Counter(value for row in rows if (value := value_of(row)) is not None)
        return Counter({value: scaled(count) for value, count in counts.items()})

    missed = sum(
        row.resolved_by == Source.POLL and row.state in FINAL and row.account in pushing
        for row in rows
    )
    sample = [queries[row.id] for row in known] or [*queries.values()]
    asked = sum(sample) * len(rows) / max(1, len(sample))
    return Bucket(
        start,
        scaled(len(rows)),
        counted(lambda row: row.state),
        counted(lambda row: row.resolved_by),
        scaled(missed),
        scaled(asked),
        total > len(rows),
    )


def latency(tx: Tx, account: str | None) -> Latency:
    """Return the latency of the newest jobs that succeeded, of one account or of all."""
    values = {"account": account, "most": LATENCY_ROWS, "at_0": "", "at_1": "job_8"}
    rows = [_Times(*row) for row in tx.execute(_newest(account is not None), values).all()]
    took = [
        ((row.finished_at - (row.submitted_at or row.created_at)).total_seconds(), row.created_at)
        for row in rows
        if row.state == JobState.SUCCEEDED and row.finished_at is not None
    ]
    times = [created for _, created in took]
    seconds = sorted(one for one, _ in took)
    return Latency(seconds, min(times, default=None), max(times, default=None))


def _queries(tx: Tx, rows: Sequence[_Job]) -> dict[str, int]:
    """Return the number of status queries of a sample of jobs, by id: spaced evenly, or of all."""
    step = -(-len(rows) // _QUERIED) or 1
    return dict(tx.execute(_ASKED, {"ids": [row.id for row in rows[::step]]}).all())


@lru_cache(maxsize=256)
def _in_buckets(count: int, of_account: bool) -> Any:
    """Select the first jobs of each bucket."""
    parts = []
    for n in range(count):
        first = _range(of_account, _bounds(n), _Job._fields[1:], f"most_{n}").subquery()
        parts.append(sa.select(sa.literal_column(str(n)).label("bucket"), first))
    return sa.union_all(*parts)


@lru_cache(maxsize=256)
def _counts_of_buckets(count: int, of_account: bool) -> Any:
    """Select of each bucket its count, the last job that was counted, and its last job."""
    parts = []
    for n in range(count):
        first = _range(of_account, _bounds(n), ("id",), "counted").subquery()
        last = _range(of_account, _bounds(n), ("id",), "one", newest=True).scalar_subquery()
        number: sa.ColumnElement[int] = sa.literal_column(str(n))
        counted = sa.select(number, sa.func.count(), sa.func.max(first.c.id), last)
        parts.append(counted.select_from(first))
    return sa.union_all(*parts)


@lru_cache(maxsize=2)
def _newest(of_account: bool) -> sa.Select[Any]:
    return _range(of_account, _bounds(0), _Times._fields, "most", newest=True)


def _bounds(number: int) -> tuple[str, str]:
    """Return the names of the parameters between whose ids the jobs of a bucket are."""
    return f"at_{number}", f"at_{number + 1}"


def _range(
    of_account: bool, bounds: tuple[str, str], shown: Sequence[str], most: str, newest: bool = False
) -> sa.Select[Any]:
    """Select the first or the last jobs between two ids, along one index.

    By pairs, where one column would do: on PostgreSQL no other index has this order.
    """
    low, high = (sa.bindparam(bound, type_=sa.String) for bound in bounds)
    found = sa.select(*(job.c[name] for name in shown)).limit(sa.bindparam(most, type_=sa.Integer))
    if not of_account:
        found = found.where(job.c.id >= low, job.c.id < high)
        return found.order_by(job.c.id.desc() if newest else job.c.id)
    account = sa.bindparam("account", type_=sa.String)
    pair = sa.tuple_(job.c.account, job.c.id)
    found = found.where(pair >= sa.tuple_(account, low), pair < sa.tuple_(account, high))
    columns = (job.c.account, job.c.id)
    return found.order_by(*((one.desc() for one in columns) if newest else columns))


_TRACES = (
    sa.select(sa.literal(1).label("one"))
    .where(trace.c.job_id == job.c.id, trace.c.kind == "poll")
    .limit(_MOST_QUERIES)
    .correlate(job)
    .subquery()
)
_ASKED = sa.select(
    job.c.id, sa.select(sa.func.count()).select_from(_TRACES).scalar_subquery().label("asked")
).where(job.c.id.in_(sa.bindparam("ids", expanding=True)))
