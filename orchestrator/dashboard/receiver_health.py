"""How the newest deliveries to a subscriber went: counts, and how long they took.

A pure function of a page of the API's list, so it costs no query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from orchestrator.dashboard import formats

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    """Of `total` deliveries: how many in each status, and of the delivered ones the time it took.

    `usual` is the median in seconds from the event to its delivery, `longest` the largest;
    None without a delivered one.
    """

    total: int
    by_status: dict[str, int]
    usual: float | None
    longest: float | None
    #: True if an attempt is about to be made.
    is_moving: bool

    @property
    def ended(self) -> int:
        """How many are delivered or dead."""
        return self.by_status.get("delivered", 0) + self.by_status.get("dead", 0)

    @property
    def rate(self) -> str:
        """The share of the ended ones that are delivered, in percent; empty of none."""
        return formats.share(self.by_status.get("delivered", 0), self.ended)


def health_of(deliveries: Sequence[Json]) -> Health:
    """Return the health that deliveries show."""
    counts = Counter(str(one["status"]) for one in deliveries)
    lags = [_lag(one) for one in deliveries if one["status"] == "delivered" and one["done_at"]]
    usual, longest = (median(lags), max(lags)) if lags else (None, None)
    waits = [one["waiting"] for one in deliveries if one["waiting"]]
    is_moving = any(wait["reason"] == "queued" for wait in waits)
    return Health(len(deliveries), dict(counts), usual, longest, is_moving)


def _lag(delivery: Json) -> float:
    done, created = (datetime.fromisoformat(delivery[name]) for name in ("done_at", "created_at"))
    return max(0.0, (done - created).total_seconds())
