"""Admission control (load shedding): bounds on the requests, and body bytes, held at once.

Beyond them a request is refused with 503 and Retry-After before memory grows. A request counts
until it is answered. Its body counts with its Content-Length, or else with the bytes read so far.
"""

from __future__ import annotations

from orchestrator.foundation.clock import Rng
from orchestrator.foundation.errors import Unavailable

MAX_REQUESTS = 2000
MAX_BODY_BYTES = 64 << 20
#: Retry-After is drawn from 1 to so many seconds, so that refused senders spread out.
_MAX_RETRY_AFTER = 5


class Admission:
    """The free slots of an endpoint, and the free bytes for request bodies."""

    def __init__(
        self, rng: Rng, *, slots: int = MAX_REQUESTS, body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self._rng = rng
        self._slots = slots
        self._bytes = body_bytes

    @property
    def is_full(self) -> bool:
        """True if no slot is free."""
        return not self._slots

    def admit(self, size: int = 0) -> Slot:
        """Return a slot for a request with a body of `size` bytes; 0 if the size is unknown.

        Raises `Unavailable` if there is none. The slot is a context manager that frees it.
        """
        if self.is_full:
            raise self._refusal()
        slot = Slot(self)
        slot.hold(size)
        self._slots -= 1
        return slot

    def reserve(self, size: int) -> None:
        """Reserve `size` bytes. Raises `Unavailable` if fewer are free."""
        if size > self._bytes:
            raise self._refusal()
        self._bytes -= size

    def release(self, size: int) -> None:
        """Free a slot and its `size` bytes."""
        self._slots += 1
        self._bytes += size

    def _refusal(self) -> Unavailable:
        seconds = self._rng.randint(1, _MAX_RETRY_AFTER)
        return Unavailable("too much is under way", retry_after=seconds)


class Slot:
    """The share of one request."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    def hold(self, size: int) -> None:
        """Hold a body that has grown to `size` bytes. Raises `Unavailable` if fewer are free."""
        if size > self._held:
            self._admission.reserve(size - self._held)
            self._held = size

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.release(self._held)


def content_length(header: str | None) -> int:
    """Return the size in a Content-Length header; 0 if it is absent or malformed."""
    return int(header[:12]) if header and header.isascii() and header.isdecimal() else 0
