"""How many requests a key may make: so many a minute, all of them at once if it likes, in each process for itself.

The algorithm is GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm): one number for each key, the moment
when it will have all of its quota again. Quota comes back evenly, so the worst minute holds twice as much.

Written here, since the library `limits` (5.8) reads the machine's clock itself, which tests in virtual time cannot
turn; its moving window keeps an object for each request and goes through them on other threads; and one request cost
it 11 to 14 microseconds, this 1.5.

The fields are those of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ (a draft).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.foundation.clock import Clock

#: Seconds in which a quota comes back.
_WINDOW = 60
#: Keys that are known before those that have all of their quota are forgotten.
_REMEMBERED = 4096
#: Of a request: what rounding takes away is not held against anybody.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What a key has left after a request. `wait`: seconds until it may make this one; 0.0 if it was let in."""

    quota: int
    left: int
    #: Seconds until it has all of it.
    reset: float
    wait: float = 0.0

    def headers(self) -> dict[str, str]:
        """Return the fields of an answer."""
        said = {
            "ratelimit-policy": f'"default";q={self.quota};w={_WINDOW}',
            "ratelimit": f'"default";r={self.left};t={math.ceil(self.reset)}',
        }
        return said | {"retry-after": str(max(1, math.ceil(self.wait)))} if self.wait else said


class Limits:
    """One process's. Knows nothing of the others: behind two of them a key has twice its quota."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._whole_at: dict[str, float] = {}
        self._places = _REMEMBERED

    def spend(self, key: str, quota: int) -> QuotaStatus | None:
        """Take one request from a key's quota a minute. None: there is no limit, the quota is 0."""
        if not quota:
            return None
        now, one = self._clock.monotonic(), _WINDOW / quota
        used = max(self._whole_at.get(key, now) - now, 0.0)
        over = used + one - _WINDOW
        if over > one * _ROUNDING:
            return QuotaStatus(quota, 0, used, wait=over)
        if len(self._whole_at) >= self._places:
            self._whole_at = {name: at for name, at in self._whole_at.items() if at > now}
            # However many are busy: one in so many requests looks for those that are not.
            self._places = max(_REMEMBERED, 2 * len(self._whole_at))
        self._whole_at[key] = now + used + one
        return QuotaStatus(quota, int((_WINDOW - used) / one - 1 + _ROUNDING), used + one)
