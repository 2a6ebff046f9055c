"""Token bucket: a rate limit with a burst of one second's tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.foundation.clock import after, epoch_ms

#: Seconds by which replicas' clocks may differ. A later `at` was written by a clock that has since
#: been set back.
_DRIFT = 2.0


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """`rate` tokens per second, at most `capacity`; `tokens` is their number `at` an instant."""

    rate: float
    tokens: float
    at: datetime

    @property
    def capacity(self) -> float:
        """The tokens of a full bucket: those of a second, at least one."""
        return max(self.rate, 1.0)

    def refilled(self, now: datetime) -> TokenBucket:
        """Return the bucket at `now`."""
        at = min(self.at, after(now, _DRIFT))
        # In the milliseconds that are stored: what each read rounds away would add up.
        passed = max(epoch_ms(now) - epoch_ms(at), 0) / 1000
        tokens = min(self.capacity, self.tokens + self.rate * passed)
        return replace(self, tokens=tokens, at=max(now, at))

    def less(self, taken: int) -> TokenBucket:
        """Return the bucket without the `taken` tokens."""
        return replace(self, tokens=self.tokens - taken)

    @property
    def wait(self) -> float:
        """Seconds until there is a token; 0.0 if there is one now."""
        return max(1.0 - self.tokens, 0.0) / self.rate
