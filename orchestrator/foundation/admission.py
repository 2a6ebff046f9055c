"""How much a door takes in at once. Beyond that it says so before memory grows, and whoever sent it comes back.

A request counts until it is answered; of its body count the bytes its head announces, else those that have come.
"""

from __future__ import annotations

from orchestrator.foundation.clock import Rng
from orchestrator.foundation.errors import Unavailable

#: Requests under way at once.
PLACES = 2000
#: Bytes of their bodies.
ROOM = 64 << 20
#: Those turned away are to come back within so many seconds, not all at once.
_LATEST = 5


class Admission:
    """The places of one door, and the room for what is brought in."""

    def __init__(self, rng: Rng, *, places: int = PLACES, room: int = ROOM) -> None:
        self._rng = rng
        self._places = places
        self._room = room

    @property
    def is_full(self) -> bool:
        """True if there is no place."""
        return not self._places

    def admit(self, announced: int = 0) -> Slot:
        """Return a place for a request whose body has so many bytes; 0 if that is not known.

        Raises `Unavailable` if there is none. To be used as a context, at whose end the place is free again.
        """
        if self.is_full:
            raise self._full()
        place = Slot(self)
        place.hold(announced)
        self._places -= 1
        return place

    def take(self, size: int) -> None:
        """Take room for so many bytes. Raises `Unavailable` if there is not enough."""
        if size > self._room:
            raise self._full()
        self._room -= size

    def leave(self, size: int) -> None:
        """Give a place back, and its room."""
        self._places += 1
        self._room += size

    def _full(self) -> Unavailable:
        return Unavailable("too much is under way", retry_after=self._rng.randint(1, _LATEST))


class Slot:
    """One request's share."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    def hold(self, size: int) -> None:
        """Hold a body that has come to `size` bytes. Raises `Unavailable` if there is no room for it."""
        if size > self._held:
            self._admission.take(size - self._held)
            self._held = size

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.leave(self._held)


def announced(length: str | None) -> int:
    """Return the size that a Content-Length announces; 0 if there is none that can be read."""
    return int(length[:12]) if length and length.isascii() and length.isdecimal() else 0
