"""Admission control (load shedding): bounds on the requests, and body bytes, held at once.

Beyond them a request is refused with 503 and Retry-After before memory grows. A request counts
until it is answered. Its body counts with its Content-Length, or else with the bytes read so far.
Each party (an API key, an account, a callback token) has a share, so that none takes all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.foundation.clock import Rng
from orchestrator.foundation.errors import Unavailable

#: Retry-After is drawn from 1 to so many seconds, so that refused senders spread out.
_MAX_RETRY_AFTER = 5
_NOTHING = (0, 0)


class Limit(NamedTuple):
    """How many requests may be held at once, and how many bytes of their bodies."""

    slots: int
    body_bytes: int = 64 << 20


class _Level:
    """What each party holds, and the most that one may hold."""

    __slots__ = ("held", "most_bytes", "most_slots")

    def __init__(self, limit: Limit) -> None:
        self.most_slots, self.most_bytes = limit
        #: Slots and bytes by party. Parties come and go: those that hold nothing are forgotten.
        self.held: dict[str, tuple[int, int]] = {}


class Admission:
    """The slots of an endpoint and the bytes of request bodies: in total, and of each party.

    `shares` are the limits of one party, in the order in which `admit` is given the parties.
    """

    def __init__(self, rng: Rng, total: Limit, *shares: Limit) -> None:
        self._rng = rng
        self._levels = [_Level(limit) for limit in (total, *shares)]

    def is_full(self, *parties: str) -> bool:
        """True if no slot is free for these parties."""
        levels = zip(self._levels, ("", *parties), strict=True)
        held = [level.held.get(party, _NOTHING)[0] < level.most_slots for level, party in levels]
        return not all(held)

    def admit(self, *parties: str, size: int = 0) -> Slot:
        """Return a slot for a request with a body of `size` bytes; 0 if the size is unknown.

        Raises `Unavailable` if there is none. The slot is a context manager that frees it.
        """
        slot = Slot(self, tuple(zip(self._levels, ("", *parties), strict=True)))
        slot.take(1, size)
        return slot

    def refusal(self) -> Unavailable:
        """Return the refusal of what there is no room for."""
        seconds = self._rng.randint(1, _MAX_RETRY_AFTER)
        return Unavailable("too much is under way", retry_after=seconds)


class Slot:
    """The slot of one request, and the bytes that its body holds."""

    __slots__ = ("_admission", "_held", "_levels")

    def __init__(self, admission: Admission, levels: tuple[tuple[_Level, str], ...]) -> None:
        self._admission = admission
        self._levels = levels
        self._held = 0

    def take(self, slots: int, size: int) -> None:
        """Take slots and bytes at every level, or none: raises `Unavailable`."""
        for level, party in self._levels:
            held_slots, held_bytes = level.held.get(party, _NOTHING)
            if held_slots + slots > level.most_slots or held_bytes + size > level.most_bytes:
                raise self._admission.refusal()
        self._count(slots, size)

    def hold(self, size: int) -> None:
        """Hold a body that has grown to `size` bytes. Raises `Unavailable` if fewer are free."""
        if size > self._held:
            self.take(0, size - self._held)

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        self._count(-1, -self._held)

    def _count(self, slots: int, size: int) -> None:
        self._held += size
        for level, party in self._levels:
            held_slots, held_bytes = level.held.get(party, _NOTHING)
            if held_slots + slots:
                level.held[party] = held_slots + slots, held_bytes + size
            else:
                level.held.pop(party, None)


class SharedAdmission:
    """Admission of bytes that several requests may share: they count once, for the first."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        #: By identity: the slot, and how many hold it.
        self._held: dict[int, tuple[Slot, int]] = {}

    @contextlib.contextmanager
    def hold(self, party: str, body: bytes) -> Iterator[None]:
        """Hold a body in the block. Raises `Unavailable` if there is no room."""
        slot, holders = self._held.get(id(body), (None, 0))
        slot = slot or self._admission.admit(party, size=len(body))
        self._held[id(body)] = slot, holders + 1
        try:
            yield
        finally:
            slot, holders = self._held.pop(id(body))
            if holders > 1:
                self._held[id(body)] = slot, holders - 1
            else:
                slot.__exit__()


def content_length(header: str | None) -> int:
    """Return the size in a Content-Length header; 0 if it is absent or malformed."""
    return int(header[:12]) if header and header.isascii() and header.isdecimal() else 0
