"""Retry policy: when a delivery is tried again, how long an attempt takes, and what ends it.

That of the service is in the settings; each subscriber may have its own of any of the three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestrator.foundation.durations import seconds_of

#: Between attempts: the example schedule of Standard Webhooks (10 attempts over 75 h 35 m).
STANDARD_WAITS: Final = ("5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h")
#: Seconds of a wait, and how many waits a schedule has.
SHORTEST_WAIT, LONGEST_WAIT, MOST_WAITS = 1.0, 7 * 86_400.0, 50
#: Attempts at a subscriber that looks misconfigured (404, 401, ...): long enough for a new
#: deployment.
SHORT_ATTEMPTS = 4


def wait_seconds(written: object) -> float:
    """Return the seconds of a wait: a number, or a text such as `90`, `5s`, `5m`, `2h`, `1d`.

    Raises `ValueError` for what is neither, or out of bounds.
    """
    found = seconds_of(written) if isinstance(written, str) else written
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError("should be seconds, or like 5s, 5m, 2h or 1d")
    if not SHORTEST_WAIT <= found <= LONGEST_WAIT:
        raise ValueError("should be from 1s to 7d")
    return float(found)


def attempts(waits: Iterable[object]) -> tuple[float, ...]:
    """Return the seconds before each attempt: the first waits for nothing."""
    return (0.0, *map(wait_seconds, waits))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How deliveries are retried.

    `schedule` has the seconds before each attempt, the first of them 0. `deadline` is in seconds,
    from connecting to the last byte of the answer. After a status of `final_statuses` a delivery is
    dead.
    """

    schedule: tuple[float, ...]
    deadline: float
    final_statuses: frozenset[int]

    @property
    def short_schedule(self) -> tuple[float, ...]:
        """The schedule of a subscriber that looks misconfigured."""
        return self.schedule[:SHORT_ATTEMPTS]

    def overridden(self, own: Mapping[str, Any] | None) -> RetryPolicy:
        """Return this policy with what a subscriber has of its own: the column `retry`."""
        if own is None:
            return self
        known = ((name, read, own.get(name)) for name, read in _READ.items())
        given = {name: read(value) for name, read, value in known if value is not None}
        return replace(self, **given)


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "schedule": attempts,
    "deadline": float,
    "final_statuses": frozenset,
}
