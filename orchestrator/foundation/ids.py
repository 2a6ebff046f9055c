"""TypeIDs: a prefix and a UUIDv7 in Crockford's base 32, such as `job_01kb7x3m5tf6a8r2w9n4c1d0eh`.

Ids are unique and sort by the order in which they were made, so an id is also a cursor.
Specification: https://github.com/jetify-com/typeid (spec 0.3.0) and RFC 9562 section 6.2, method 2.
"""

from __future__ import annotations

import re
import struct
import threading
from datetime import datetime, timedelta
from functools import lru_cache

from orchestrator.foundation.clock import EPOCH, Clock, Rng, epoch_ms

PREFIXES = ("job", "psh", "evt", "sub", "dlv", "key", "rpl")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_RANDOM_BITS = 74
_TIME_DIGITS = 10
#: Python's base 32 leaves out other letters.
_TO_PYTHON = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
#: 64 random increments are drawn at once: a call to the system for each takes longer than the
#: rest of an id.
_INCREMENTS = struct.Struct("<64I")


def pattern(prefix: str) -> str:
    """Return the regular expression of an id, without anchors; `prefix` is one too."""
    return f"{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}"


_ID = re.compile(pattern(f"(?:{'|'.join(PREFIXES)})"))
_LENGTH = len("job_") + 26


class Ids:
    """Makes ids that sort by the order in which this process made them. Thread-safe."""

    def __init__(self, clock: Clock, rng: Rng) -> None:
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._ms = 0
        self._tail = 0
        self._increments: list[int] = []

    def __call__(self, prefix: str) -> str:
        """Return a new id with that prefix."""
        return self.many(prefix, 1)[0]

    def many(self, prefix: str, count: int) -> list[str]:
        """Return `count` new ids."""
        with self._lock:
            ms = epoch_ms(self._clock.now())
            return [self._next(prefix, ms) for _ in range(count)]

    def _next(self, prefix: str, ms: int) -> str:
        if ms > self._ms:
            self._ms = ms
            # The top bit stays clear: room to increment within the millisecond.
            self._tail = self._rng.getrandbits(_RANDOM_BITS - 1)
        else:
            # Same millisecond, or the clock went back: increment the last id.
            self._tail += 1 + self._increment()
            if self._tail >> _RANDOM_BITS:
                self._ms += 1
                self._tail = self._rng.getrandbits(_RANDOM_BITS - 1)
        return f"{prefix}_{_time(self._ms)}{_rest(self._tail)}"

    def _increment(self) -> int:
        """Return 32 random bits."""
        if not self._increments:
            self._increments += _INCREMENTS.unpack(self._rng.randbytes(_INCREMENTS.size))
        return self._increments.pop()


def earliest(prefix: str, at: datetime) -> str:
    """Return the lower bound of the ids made at `at` or later."""
    return f"{prefix}_{_time(epoch_ms(at))}{_rest(0)}"


def made_at(text: str) -> datetime:
    """Return the instant at which an id was made, in whole milliseconds."""
    time = text.rpartition("_")[2][:_TIME_DIGITS]
    return EPOCH + timedelta(milliseconds=int(time.translate(_TO_PYTHON), 32))


def is_id(text: str, prefix: str) -> bool:
    """True if `text` has the form of an id with that prefix."""
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None


def begins_id(text: str, prefix: str) -> bool:
    """True if an id with that prefix can begin with `text`, which is longer than the prefix."""
    return len(text) > len(prefix) + 1 and is_id(text.ljust(_LENGTH, "0"), prefix)


@lru_cache(maxsize=8)
def _time(ms: int) -> str:
    """Return the first 50 bits as 10 digits: two zero bits, and 48 bits of time."""
    return "".join(_PAIRS[ms >> shift & 0x3FF] for shift in (40, 30, 20, 10, 0))


def _rest(tail: int) -> str:
    """Return the other 80 bits as 16 digits: version 7, 12 bits, variant 2, 62 bits."""
    high = 0x7 << 36 | tail >> 62 << 24 | 0b10 << 22 | tail >> 40 & 0x3FFFFF
    return (
        _PAIRS[high >> 30] + _PAIRS[high >> 20 & 0x3FF]
        + _PAIRS[high >> 10 & 0x3FF] + _PAIRS[high & 0x3FF]
        + _PAIRS[tail >> 30 & 0x3FF] + _PAIRS[tail >> 20 & 0x3FF]
        + _PAIRS[tail >> 10 & 0x3FF] + _PAIRS[tail & 0x3FF]
    )  # fmt: skip
