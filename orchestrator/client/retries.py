"""When a call that failed is sent again, and how long it waits before: arithmetic, without a clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from orchestrator.client import errors
from orchestrator.client.requests import Request

#: Seconds that a server may ask to be waited for within one call; who asks for more gets its refusal passed on.
LONGEST_ASKED = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is sent again: `count` times at most, `first` s after the first try, then twice as long."""

    count: int = 2
    first: float = 0.5
    longest: float = 8.0
    rng: random.Random = field(default_factory=random.SystemRandom, repr=False)

    def pause(self, tries: int, asked: float | None = None) -> float:
        """Return the seconds before the next try, after so many. What the server asked for is the least."""
        backoff = min(self.longest, self.first * 2.0 ** min(tries - 1, 30))
        # Drawn apart, so that those who failed together do not come back together.
        return (asked or 0.0) + backoff * self.rng.uniform(0.5, 1.0)

    def after(self, request: Request, error: errors.ClientError, tries: int) -> float | None:
        """Return the seconds before sending it again, or None if the error is to be raised."""
        if tries > self.count or not is_repeatable(request, error):
            return None
        asked = error.retry_after if isinstance(error, errors.ApiError) else None
        return None if (asked or 0.0) > LONGEST_ASKED else self.pause(tries, asked)


def is_passing(error: errors.ClientError) -> bool:
    """True if the same question may be answered later: the server is away, or busy."""
    return isinstance(error, (errors.Unreachable, errors.RateLimited, errors.Unavailable))


def is_repeatable(request: Request, error: errors.ClientError) -> bool:
    """True if it may work later and sending it again cannot do it twice.

    Our own 429 and 503 say that nothing was done; a proxy's words say nothing about that.
    """
    if not is_passing(error):
        return False
    if request.is_idempotent or isinstance(error, errors.RateLimited):
        return True
    if isinstance(error, errors.Unreachable):
        return not error.sent
    return isinstance(error, errors.Unavailable) and error.code == "unavailable"
