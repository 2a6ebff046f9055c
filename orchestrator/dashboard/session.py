"""Who looks at a page: signing in with an API key, the session's cookie, and whose forms count.

The cookie is signed, names the key by its id, and is worth nothing once the key is revoked.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import BadToken
from orchestrator.foundation.signing.secret_keys import Keys, Session

COOKIE = "orchestrator_session"
#: The field of a form that holds the token.
FORM_FIELD = "form_token"
LIFE = timedelta(hours=12)
#: Addresses that are remembered. While all of them are busy, no further one is admitted.
_MAX_ADDRESSES = 4096


class Identity(Protocol):
    """An API key that is valid now."""

    @property
    def id(self) -> str: ...

    @property
    def scope(self) -> str: ...


class Identities(Protocol):
    """The API keys. Both raise `Unavailable`."""

    async def identify(self, secret: str, /) -> Identity | None:
        """Return the key with this text, or None."""
        ...

    async def caller(self, key_id: str, /) -> Identity | None:
        """Return the key with this id; None if it is not valid any longer."""
        ...


class AddressLimit:
    """What an address may do at once, and the seconds after which one of these returns.

    The algorithm is that of the rate limit of API keys (GCRA).
    """

    def __init__(self, clock: Clock, *, burst: int, seconds: float) -> None:
        self._clock = clock
        self._room = (burst - 1) * seconds
        self._seconds = seconds
        #: When each address has everything again.
        self._full: dict[str, float] = {}

    def admit(self, address: str) -> float:
        """Count one; return the seconds to wait, 0.0 if it is allowed."""
        now = self._clock.monotonic()
        full = max(self._full.get(address, now), now)
        if (wait := full - now - self._room) > 0:
            return wait
        if address not in self._full and len(self._full) >= _MAX_ADDRESSES:
            self._full = {one: at for one, at in self._full.items() if at > now}
            if len(self._full) >= _MAX_ADDRESSES:
                return self._seconds
        self._full[address] = full + self._seconds
        return 0.0


@dataclass
class Sessions:
    """Opens, reads and ends the sessions of browsers."""

    keys: Keys
    clock: Clock
    identities: Identities
    is_secure: bool

    def __post_init__(self) -> None:
        #: Attempts to sign in.
        self.attempts = AddressLimit(self.clock, burst=10, seconds=6.0)

    async def find(self, request: Request) -> tuple[Session, Identity] | None:
        """Return the session of a request and its key; None without a valid one."""
        text = request.cookies.get(COOKIE, "")
        try:
            session = self.keys.read_session(text, self.clock.now())
        except BadToken:
            return None
        identity = await self.identities.caller(session.caller)
        return None if identity is None else (session, identity)

    async def open(self, secret: str, response: Response) -> bool:
        """Put the session of a key into a response. False if the key is not valid."""
        identity = await self.identities.identify(secret)
        if identity is None:
            return False
        session = Session(identity.id, secrets.token_urlsafe(16))
        text = self.keys.mint_session(session, self.clock.now() + LIFE)
        self._set(response, text, int(LIFE.total_seconds()))
        return True

    def end(self, response: Response) -> None:
        """Take the session out of the browser that gets this response."""
        self._set(response, "", 0)

    def _set(self, response: Response, text: str, seconds: int) -> None:
        # Without a path it belongs to that of the form, behind any prefix of a proxy.
        secure = self.is_secure
        response.set_cookie(
            COOKIE, text, seconds, path=None, httponly=True, samesite="strict", secure=secure
        )


def is_same_site(request: Request, origins: set[str]) -> bool:
    """Return whether a write comes from a page of ours.

    Browsers send `Sec-Fetch-Site`, older ones `Origin` alone; a request with neither is refused
    unless its token fits, as other sites cannot read that.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin in origins | {f"{request.url.scheme}://{request.url.netloc}"}
