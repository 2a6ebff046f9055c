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

#: Seconds. For most of a minute, an attempt in progress is shown as one that is scheduled.
_SOON = 60.0


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
    return Health(len(deliveries), dict(counts), usual, longest)


def any_moving(deliveries: Sequence[Json], now: datetime) -> bool:
    """True if an attempt is made now, or will be soon. An attempt is no event, so look again."""
    waits = [one["waiting"] for one in deliveries if one["waiting"]]
    return any(
        wait["reason"] == "queued"
        or (wait["until"] and (datetime.fromisoformat(wait["until"]) - now).total_seconds() < _SOON)
        for wait in waits
    )


def _lag(delivery: Json) -> float:
    done, created = (datetime.fromisoformat(delivery[name]) for name in ("done_at", "created_at"))
    return max(0.0, (done - created).total_seconds())
