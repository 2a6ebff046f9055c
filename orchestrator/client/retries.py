"""Which failed calls are retried, and when: exponential backoff with jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from orchestrator.client import errors
from orchestrator.client.requests import Request

#: The longest Retry-After, in seconds, that a call waits for; beyond it the error is raised.
LONGEST_RETRY_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `count` retries; the backoff is `first` seconds, then doubles up to `longest`."""

    count: int = 2
    first: float = 0.5
    longest: float = 8.0
    rng: random.Random = field(default_factory=random.SystemRandom, repr=False)

    def backoff(self, tries: int, error: errors.ClientError | None = None) -> float:
        """Return the seconds before the next try, at least the error's Retry-After."""
        backoff = min(self.longest, self.first * 2.0 ** min(tries - 1, 30))
        # Jitter: clients that failed together do not return together.
        return _retry_after(error) + backoff * self.rng.uniform(0.5, 1.0)

    def delay(self, request: Request, error: errors.ClientError, tries: int) -> float | None:
        """Return the seconds before a retry, or None if the error is to be raised."""
        if tries > self.count or not is_safe_to_retry(request, error):
            return None
        return None if _retry_after(error) > LONGEST_RETRY_AFTER else self.backoff(tries, error)


def _retry_after(error: errors.ClientError | None) -> float:
    return (error.retry_after if isinstance(error, errors.ApiError) else None) or 0.0


def is_transient(error: errors.ClientError) -> bool:
    """True if the same request may succeed later: the server is down, or busy."""
    return isinstance(error, (errors.Unreachable, errors.RateLimited, errors.Unavailable))


def is_safe_to_retry(request: Request, error: errors.ClientError) -> bool:
    """True if a retry may succeed and cannot have a second effect.

    The service answers 429 and its own 503 (code `unavailable`) before it does anything. A
    proxy's 503 leaves that open.
    """
    if not is_transient(error):
        return False
    if request.is_idempotent or isinstance(error, errors.RateLimited):
        return True
    if isinstance(error, errors.Unreachable):
        return not error.sent
    return isinstance(error, errors.Unavailable) and error.code == "unavailable"
