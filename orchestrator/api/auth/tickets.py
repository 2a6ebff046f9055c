"""Stream tickets: a browser opens an event stream with one, since EventSource cannot send a key.

A ticket is signed, short-lived, for one stream, and valid only as long as the key that it was made
with. It holds no secret. In each process it opens one stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.api.problems import Refusal
from orchestrator.foundation.clock import Clock, Rng, after
from orchestrator.foundation.errors import BadToken
from orchestrator.foundation.signing.secret_keys import Keys, Ticket

#: Used tickets of one caller that may be valid still: each is remembered until it expires.
_MAX_USED = 4096


@dataclass(kw_only=True)
class StreamTickets:
    """Mints and redeems tickets."""

    keys: Keys
    clock: Clock
    rng: Rng

    def __post_init__(self) -> None:
        #: When the used tickets of each caller expire, by their numbers.
        self._used: dict[str, dict[str, datetime]] = {}

    def mint(
        self, caller: str, types: Sequence[str] | None, seconds: float
    ) -> tuple[str, datetime]:
        """Return a ticket for the caller with that id, and the time until which it opens a stream.

        `types` are globs of event types; None: all.
        """
        expires = after(self.clock.now(), seconds)
        chosen = None if types is None else tuple(types)
        ticket = Ticket(caller, chosen, f"{self.rng.getrandbits(96):024x}")
        return self.keys.mint_ticket(ticket, expires), expires

    def redeem(self, text: str) -> Ticket:
        """Return a valid ticket, once. Raises a `Problem` 401, the same for every reason."""
        now = self.clock.now()
        try:
            ticket, expires = self.keys.read_ticket(text, now)
        except BadToken:
            raise _refusal() from None
        used = self._used.get(ticket.caller, {})
        if ticket.number in used:
            raise _refusal()
        if len(used) >= _MAX_USED:
            used = {number: until for number, until in used.items() if until >= now}
        if len(used) >= _MAX_USED:
            raise Refusal("rate_limited", f"{_MAX_USED} used tickets of this key are valid still")
        used[ticket.number] = expires
        self._used[ticket.caller] = used
        return ticket


def _refusal() -> Refusal:
    detail = "the ticket is not valid, or was used: get one from POST /v1/events/tickets"
    return Refusal("unauthorized", detail)
