"""How long a vendor takes: the distribution of the time from a submission to the end of its job.

A histogram with log-spaced buckets that forgets: half of what it holds in a day. Between the bounds
of a bucket its jobs are spread evenly. What lies beyond everything known is never certain: there is
always room for one more job, and for those whose end is open.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

#: Upper bounds of the buckets in seconds, from one second to a day. The last one is open.
BOUNDS: tuple[float, ...] = tuple(round(86_400 ** (n / 63), 3) for n in range(64))
#: Seconds after which a sample counts half, if there are enough.
_HALF_LIFE, _ENOUGH = 86_400.0, 100.0


class Latency:
    """A distribution of latencies. `samples` is how many jobs it holds, the old ones in part."""

    __slots__ = ("_shares", "samples")

    def __init__(self, counts: Sequence[float], live: Sequence[float] = ()) -> None:
        """Take the counts of the buckets, and those of live jobs by their age.

        Without these, the first jobs to end would pass for all: of a thousand jobs that begin at
        once, the fastest ones are known first. A live job counts up to its age (Kaplan and Meier).
        """
        self.samples = float(sum(counts))
        self._shares: list[float] = []
        left, at_risk = 1.0, self.samples + sum(live) + 1
        for place, ended in enumerate(counts):
            left *= 1 - ended / at_risk
            at_risk -= ended + (live[place] if live else 0.0)
            self._shares.append(1 - left)

    def share(self, seconds: float) -> float:
        """Return the share of jobs that have ended so many seconds after their submission."""
        if seconds <= 0:
            return 0.0
        bucket: int = bisect_left(BOUNDS, seconds)
        if bucket >= len(BOUNDS):
            return self._shares[-1]
        low, below = self._before(bucket)
        part = (seconds - low) / (BOUNDS[bucket] - low)
        return below + (self._shares[bucket] - below) * part

    def quantile(self, share: float) -> float | None:
        """Return after how many seconds a share of jobs has ended; None: later than any known."""
        bucket: int = bisect_left(self._shares, share)
        if bucket >= len(BOUNDS):
            return None
        low, below = self._before(bucket)
        part = (share - below) / max(self._shares[bucket] - below, 1e-12)
        return low + (BOUNDS[bucket] - low) * part

    def known_quantile(self, share: float) -> float | None:
        """Return a quantile of the jobs that have ended; None without any."""
        return self.quantile(share * self._shares[-1]) if self.samples else None

    def _before(self, bucket: int) -> tuple[float, float]:
        """Return the lower bound of a bucket, and the share of jobs below it."""
        return (BOUNDS[bucket - 1], self._shares[bucket - 1]) if bucket else (0.0, 0.0)


def no_counts() -> list[float]:
    """Return the counts of an empty histogram."""
    return [0.0] * len(BOUNDS)


def observe(counts: list[float], after: float, until: float) -> None:
    """Count a job that ended later than `after` seconds and not later than `until`.

    A push tells the time of an end, a status query only between which two queries it was: then the
    job is spread evenly over that time.
    """
    bucket, width = _bucket(until), until - after
    if width <= 0:
        counts[bucket] += 1.0
        return
    first = _bucket(after)
    for place in range(first, bucket + 1):
        low = max(after, BOUNDS[place - 1] if place else 0.0)
        high = until if place == bucket else BOUNDS[place]
        counts[place] += max(0.0, high - low) / width


def remaining(samples: float, seconds: float) -> float:
    """Return the share of so many samples that is left after some seconds.

    Half of them in a day; where they are few, later, since nothing better is known.
    """
    half_life = _HALF_LIFE * max(1.0, _ENOUGH / max(samples, 1e-9))
    return float(0.5 ** (max(0.0, seconds) / half_life))


def _bucket(seconds: float) -> int:
    return int(min(bisect_left(BOUNDS, seconds), len(BOUNDS) - 1))
