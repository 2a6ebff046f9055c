"""A token bucket: so many a second, with room for one second's worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.foundation.clock import after, epoch_ms

#: Seconds by which the clocks of replicas may differ; a later mark is the mark of a clock that was set back since.
_DRIFT = 2.0


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """What a rate of so many a second allows: a bucket that holds a second's worth, at least one, as it was `at`."""

    rate: float
    tokens: float
    at: datetime

    @property
    def most(self) -> float:
        """What the bucket holds when it is full."""
        return max(self.rate, 1.0)

    def refilled(self, now: datetime) -> TokenBucket:
        """Return it as it is now."""
        at = min(self.at, after(now, _DRIFT))
        # In the milliseconds that are stored: what is rounded away at each look would add up.
        passed = max(epoch_ms(now) - epoch_ms(at), 0) / 1000
        return replace(
            self, tokens=min(self.most, self.tokens + self.rate * passed), at=max(now, at)
        )

    def less(self, taken: int) -> TokenBucket:
        """Return what is left of it."""
        return replace(self, tokens=self.tokens - taken)

    @property
    def wait(self) -> float:
        """Seconds until it allows one; 0.0 if it does already."""
        return max(1.0 - self.tokens, 0.0) / self.rate
