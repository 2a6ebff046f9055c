"""Statistics: the history of an account or of all, for charts; and counts of now."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from orchestrator.foundation.clock import rfc3339
from orchestrator.schemas.base import Json, Shape
from orchestrator.schemas.example_values import CREATED, NEXT_DAY


class HistoryCounts(Shape):
    """Jobs, as they are now. `missed`: their vendor pushes, but a status query found the end."""

    submitted: int
    succeeded: int
    failed: int
    canceled: int
    expired: int
    live: int
    by_push: int
    by_poll: int
    missed: int
    polls: Annotated[
        int, Field(description="Status queries, estimated from some jobs of each bucket.")
    ]


class HistoryBucket(HistoryCounts):
    """The jobs that were created within a bucket of time."""

    at: Annotated[AwareDatetime, Field(description="Its begin.")]
    estimated: Annotated[
        bool,
        Field(description="The bucket has more jobs than are read; they stand for all of them."),
    ]


class LatencyCount(Shape):
    """How many jobs took up to `le` seconds, and longer than the count before."""

    le: Annotated[float | None, Field(description="Null: no bound.")]
    count: int


class LatencyDistribution(Shape):
    """Seconds from submission to success, measured: of those of the newest 1000 that succeeded."""

    samples: int
    since: Annotated[AwareDatetime | None, Field(description="When the oldest was created.")]
    until: Annotated[AwareDatetime | None, Field(description="When the newest was created.")]
    p50: float | None
    p95: float | None
    p99: float | None
    counts: list[LatencyCount]


class History(Shape):
    """Jobs over time, by the time of their creation; and how long the newest ones took."""

    since: AwareDatetime
    until: Annotated[AwareDatetime, Field(description="The last bucket ends here, incomplete.")]
    bucket_seconds: int
    buckets: list[HistoryBucket]
    totals: HistoryCounts
    latency: LatencyDistribution


class AccountHistory(History):
    """The history of one account."""

    object: Literal["account_history"]
    account: str


class QueueAges(Shape):
    """Seconds since the oldest was created, or became due; null: there is none."""

    queued: Annotated[
        float | None,
        Field(description="A job that is not submitted, though its `start_after` has passed."),
    ]
    submitting: Annotated[float | None, Field(description="A job whose submission is in doubt.")]
    at_vendor: Annotated[float | None, Field(description="A job that the vendor has.")]
    delivery: Annotated[float | None, Field(description="An overdue delivery.")]


class Rates(Shape):
    """Jobs of the last five minutes, per minute."""

    submitted: float
    ended: float
    push_share: Annotated[
        float | None, Field(description="Of the ends found by push or status query, those by push.")
    ]


class Stats(History):
    """The whole service now, and the history of all accounts. At most some seconds old."""

    object: Literal["stats"]
    at: AwareDatetime
    jobs: Annotated[dict[str, int], Field(description="Stored jobs by status.")]
    jobs_estimated: Annotated[
        bool, Field(description="Those that succeeded are estimated: there are many of them.")
    ] = False
    deliveries: Annotated[
        dict[str, int], Field(description="Stored deliveries by status, without delivered ones.")
    ]
    ages: QueueAges
    rates: Rates


_COUNTS: Json = {
    "submitted": 120, "succeeded": 117, "failed": 2, "canceled": 0, "expired": 0, "live": 1,
    "by_push": 117, "by_poll": 2, "missed": 2, "polls": 4,
}  # fmt: skip
_HISTORY: Json = {
    "since": rfc3339(CREATED),
    "until": rfc3339(NEXT_DAY),
    "bucket_seconds": 1800,
    "buckets": [{"at": rfc3339(CREATED), **_COUNTS, "estimated": False}],
    "totals": _COUNTS,
    "latency": {
        "samples": 117, "since": rfc3339(CREATED), "until": rfc3339(NEXT_DAY),
        "p50": 84.2, "p95": 131.0, "p99": 190.5, "counts": [{"le": 100.0, "count": 90}],
    },
}  # fmt: skip
ACCOUNT_HISTORY_EXAMPLE: Json = {"object": "account_history", "account": "main", **_HISTORY}
STATS_EXAMPLE: Json = {
    "object": "stats", "at": rfc3339(NEXT_DAY),
    "jobs": {"queued": 0, "processing": 1, "succeeded": 9004, "failed": 21},
    "jobs_estimated": False,
    "deliveries": {"pending": 3, "held": 0, "dead": 1},
    "ages": {"queued": None, "submitting": None, "at_vendor": 41.2, "delivery": 0.4},
    "rates": {"submitted": 2.4, "ended": 2.2, "push_share": 0.98},
    **_HISTORY,
}  # fmt: skip
