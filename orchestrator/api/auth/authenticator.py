"""Who is calling: a key of the keyring, a bootstrap key of the configuration, or the operator's own command line."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from starlette.requests import Request

from orchestrator.api.auth import api_keys
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.auth.rate_limit import Limits, QuotaStatus
from orchestrator.api.problems import Refusal
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.masking import OPERATOR_PREFIX

log = structlog.get_logger()

#: Seconds for which a found key is believed without asking again; a revoked one works on elsewhere for as long.
_FRESH = 3.0
_REMEMBERED = 4096
#: Where in a request's scope stands what its caller has left.
_STANDING = "orchestrator.standing"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was let in. `id` goes on the jobs they submit and is the scope of their idempotency keys.

    `rate_limit` is in requests a minute; None: what the settings say.
    """

    id: str
    scope: Scope
    rate_limit: int | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A key that was found: believed until then by the clock that never goes back, and no longer than it is good."""

    caller: Caller
    until: float
    expires_at: datetime | None


class Authenticator:
    """Lets callers in."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._bootstrap = [
            api_keys.digest(key.get_secret_value()) for key in runtime.settings.api_keys
        ]
        self._known: dict[str, _Found] = {}
        self._limits = Limits(runtime.clock)
        self._forgot = asyncio.Event()

    async def admit(self, request: Request) -> Caller:
        """Return who is calling, and count it as one of their requests; what they have left is for `told`.

        Raises a `Problem` 401, the same for every reason, or 429, and `Unavailable`.
        """
        caller = await self._find(_bearer(request))
        if caller is None:
            why = "send a valid key as `Authorization: Bearer orc_...`"
            raise Refusal(why, status=401, code="unauthorized", title="Not authenticated")
        usual = self._runtime.settings.api_rate_limit
        quota = usual if caller.rate_limit is None else caller.rate_limit
        request.scope[_STANDING] = standing = self._limits.spend(caller.id, quota)
        if standing is not None and standing.wait:
            why = f"this key may make {quota} requests a minute in this process; come back after `Retry-After` seconds"
            raise Refusal(why, status=429, code="rate_limited", title="Too many requests")
        return caller

    async def ended(self, request: Request) -> None:
        """Return when the key of a request that was let in is good no more: at once if it was revoked here."""
        secret = _bearer(request)
        # What the operator shows is good for a minute, and for what was begun in it.
        while secret.startswith(OPERATOR_PREFIX) or await self._is_good(secret):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FRESH):
                    await self._forgot.wait()

    async def _is_good(self, secret: str) -> bool:
        try:
            return await self._find(secret) is not None
        except Unavailable:
            # A database that is away for a moment ends nobody's stream.
            return True

    def forget(self) -> None:
        """Believe nothing found so far: a key was revoked."""
        self._known.clear()
        self._forgot.set()
        self._forgot = asyncio.Event()

    async def _find(self, secret: str) -> Caller | None:
        now = self._runtime.clock.now()
        if secret.startswith(OPERATOR_PREFIX):
            admitted = self._runtime.keys.accepts_pass(secret.removeprefix(OPERATOR_PREFIX), now)
            return Caller("operator", Scope.ADMIN) if admitted else None
        if not api_keys.is_key(secret):
            return None
        digest = api_keys.digest(secret)
        # All are compared, so that the time says nothing about which one it nearly was.
        matches = [hmac.compare_digest(digest, known) for known in self._bootstrap]
        if any(matches):
            return Caller(f"bootstrap_{digest[:12]}", Scope.ADMIN)
        known = self._known.get(digest)
        if known is None or known.until <= self._runtime.clock.monotonic():
            return await self._look_up(secret, digest, now)
        return known.caller if known.expires_at is None or known.expires_at > now else None

    async def _look_up(self, secret: str, digest: str, now: datetime) -> Caller | None:
        row = await self._runtime.store.read(api_keys.find, secret, now)
        if row is None:
            self._known.pop(digest, None)
            return None
        if api_keys.is_due_a_touch(row, now):
            await self._touch(row["id"], now)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        caller = Caller(row["id"], Scope(row["scope"]), row["rate_limit"])
        self._known[digest] = _Found(
            caller, self._runtime.clock.monotonic() + _FRESH, row["expires_at"]
        )
        return caller

    async def _touch(self, key_id: str, now: datetime) -> None:
        try:
            await self._runtime.store.claim(api_keys.touch, key_id, now)
        except Unavailable as error:
            # A full disk must not lock readers out.
            log.warning("the use of a key could not be recorded", key=key_id, error=str(error))


def told(request: Request) -> Mapping[str, str]:
    """Return what every answer says to a caller that was recognised: how many requests they have left."""
    standing: QuotaStatus | None = request.scope.get(_STANDING)
    return {} if standing is None else standing.headers()


def _bearer(request: Request) -> str:
    """Return the one bearer credential of a request, or nothing."""
    said = request.headers.getlist("authorization")
    scheme, _, secret = said[0].partition(" ") if len(said) == 1 else ("", "", "")
    return secret.strip() if scheme.lower() == "bearer" else ""
