"""The log of a run. Its hash identifies the run; its last lines lead to a violation."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

#: Lines kept.
_SHOWN = 10_000


class Trace:
    """A log in virtual time. It contains no secret and no randomness other than the seed's."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._hash = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=_SHOWN)

    def add(self, *words: object) -> None:
        """Add a line."""
        line = f"{self._time():11.3f} " + " ".join(map(str, words))
        self._hash.update(line.encode())
        self._last.append(line)

    def digest(self) -> str:
        """Return the hash of all lines."""
        return self._hash.hexdigest()

    def last(self, count: int) -> list[str]:
        """Return the last lines."""
        return list(self._last)[-count:]
