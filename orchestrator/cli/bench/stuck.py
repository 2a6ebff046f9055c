"""A subscriber that is no good: reads everything and never ends an answer. `GET /count` says how many it holds.

As `trickle` it begins one, and goes on with a byte a second.
"""

from __future__ import annotations

import asyncio
import sys

from orchestrator.cli.bench.raw import Wire, response

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 3600\r\n\r\n"
_EVERY = 1.0


class Stuck(Wire):
    """One connection."""

    held = 0

    def __init__(self, *, trickles: bool) -> None:
        super().__init__()
        self._trickles = trickles

    def heard(self, head: bytes, body: bytes) -> None:
        """Hold a delivery; answer who asks how many."""
        if head.startswith(b"GET"):
            self.transport.write(response(b"%d" % Stuck.held))
            return
        Stuck.held += 1
        if self._trickles:
            self.transport.write(_HEAD)
            self._go_on()

    def _go_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b".")
            asyncio.get_running_loop().call_later(_EVERY, self._go_on)


def main() -> None:
    """Be the subscriber."""
    from orchestrator.cli.bench.child import accept

    trickles = sys.argv[1] == "trickle"
    accept(lambda: Stuck(trickles=trickles))


if __name__ == "__main__":
    main()
