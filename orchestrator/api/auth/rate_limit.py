"""The rate limit of API keys: requests a minute, in bursts of a minute's quota, per process.

The algorithm is GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm): one number per
key, the time at which its quota is full again. Quota returns evenly, so the worst minute allows
twice the quota.

Why not the library `limits` (5.8): it reads the system clock itself, which tests in virtual time
cannot set; its moving window stores an object per request and expires them on other threads; and a
request cost it 11 to 14 microseconds, this 1.5.

The headers are those of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
(a draft).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.foundation.clock import Clock

#: Seconds in which a quota returns.
_WINDOW = 60
#: Keys that are remembered before those with a full quota are dropped.
_MAX_KEYS = 4096
#: Tolerance for rounding errors, as a share of a request.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What a key has left after a request."""

    quota: int
    left: int
    #: Seconds until the quota is full.
    reset: float
    #: Seconds until this request is allowed; 0.0 if it was.
    wait: float = 0.0

    def headers(self) -> dict[str, str]:
        """Return the headers of the response."""
        headers = {
            "ratelimit-policy": f'"default";q={self.quota};w={_WINDOW}',
            "ratelimit": f'"default";r={self.left};t={math.ceil(self.reset)}',
        }
        if self.wait:
            headers["retry-after"] = str(max(1, math.ceil(self.wait)))
        return headers


class RateLimiter:
    """The limits of one process. With two processes, a key has twice its quota."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._capacity = _MAX_KEYS

    def spend(self, key: str, quota: int) -> QuotaStatus | None:
        """Take one request from a key's quota a minute. None: the quota is 0, so unlimited."""
        if not quota:
            return None
        now, cost = self._clock.monotonic(), _WINDOW / quota
        used = max(self._full_at.get(key, now) - now, 0.0)
        over = used + cost - _WINDOW
        if over > cost * _ROUNDING:
            return QuotaStatus(quota, 0, used, wait=over)
        if len(self._full_at) >= self._capacity:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
            # Amortised: the next scan is due when the number of busy keys has doubled.
            self._capacity = max(_MAX_KEYS, 2 * len(self._full_at))
        self._full_at[key] = now + used + cost
        return QuotaStatus(quota, int((_WINDOW - used) / cost - 1 + _ROUNDING), used + cost)
