"""Authentication by an API key, a bootstrap key of the settings, or an operator pass."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog
from starlette.requests import Request

from orchestrator.api.auth import api_keys
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.auth.rate_limit import QuotaStatus, RateLimiter
from orchestrator.api.auth.tickets import StreamTickets
from orchestrator.api.problems import Refusal
from orchestrator.database.store import Store
from orchestrator.foundation.clock import Clock, Rng
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.in_process import CALLER, SHARED
from orchestrator.foundation.masking import OPERATOR_PREFIX
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.shared_tasks import SharedTasks
from orchestrator.foundation.signing.secret_keys import Keys, Ticket

log = structlog.get_logger()

#: Seconds for which a key is cached. A key revoked in another process is valid here for as long.
_CACHED = 0.5
_CACHE_SIZE = 4096
#: The entry of a request's scope that holds the caller's `QuotaStatus`.
_QUOTA = "orchestrator.quota"
#: The entry that holds the `Ticket` by which it was admitted.
_TICKET = "orchestrator.ticket"
_OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `id` is stored with their jobs and scopes their idempotency keys.

    `rate_limit` is in requests a minute; None: as the settings say.
    """

    id: str
    scope: Scope
    rate_limit: int | None = None


@dataclass(frozen=True, slots=True)
class _CachedKey:
    """A valid key. Cached until `until` on the monotonic clock, and not beyond `expires_at`."""

    caller: Caller
    until: float
    expires_at: datetime | None


class _Credential(NamedTuple):
    """By what a request was admitted: a bearer secret, a ticket's caller, or a key's id."""

    secret: str
    ticket: str | None
    acting: str | None


@dataclass(kw_only=True)
class Authenticator:
    """Authenticates requests by their bearer key, and applies the key's rate limit."""

    store: Store
    clock: Clock
    keys: Keys
    settings: Settings
    rng: Rng

    def __post_init__(self) -> None:
        bootstrap = self.settings.api_keys
        self._bootstrap = [api_keys.digest(key.get_secret_value()) for key in bootstrap]
        self._cache: dict[str, _CachedKey] = {}
        #: Keys that are known by their ids: of streams by ticket, and of browsers.
        self._by_id: dict[str, _CachedKey] = {}
        self._limiter = RateLimiter(self.clock)
        self.tickets = StreamTickets(keys=self.keys, clock=self.clock, rng=self.rng)
        self._forgot = asyncio.Event()
        #: The checks of credentials of open streams.
        self._checks = SharedTasks[_Credential]()

    async def authenticate(self, request: Request) -> Caller:
        """Return the caller, and count the request; `rate_limit_headers` has what is left.

        Raises a `Problem` 401, the same for every reason, or 429; and `Unavailable`.
        """
        acting = request.scope.get(CALLER)
        secret = _bearer(request)
        caller = await (self._find(secret) if acting is None else self.caller(acting))
        if caller is None:
            detail = "send a valid key as `Authorization: Bearer orc_...`"
            raise Refusal("unauthorized", detail)
        self._count(request, caller)
        return caller

    async def identify(self, secret: str) -> Caller | None:
        """Return the caller with this key, or None. Raises `Unavailable`."""
        return None if secret.startswith(OPERATOR_PREFIX) else await self._find(secret)

    async def caller(self, key_id: str) -> Caller | None:
        """Return the caller with the key of this id; None if it is not valid.

        Raises `Unavailable`.
        """
        if key_id == SHARED:
            # Its quota is that of each address: the dashboard counts.
            return Caller(key_id, Scope.READ, rate_limit=0)
        if key_id in map(_bootstrap_id, self._bootstrap):
            return Caller(key_id, Scope.ADMIN)
        known = self._by_id.get(key_id)
        if known is not None and known.until > self.clock.monotonic():
            is_over = known.expires_at is not None and known.expires_at <= self.clock.now()
            return None if is_over else known.caller
        forgot = self._forgot
        row = await self.store.read(api_keys.get, key_id)
        if row is None or not api_keys.is_valid(row, self.clock.now()):
            return None
        caller = Caller(row["id"], Scope(row["scope"]), row["rate_limit"])
        if forgot is self._forgot:
            if len(self._by_id) >= _CACHE_SIZE:
                self._by_id.clear()
            until = self.clock.monotonic() + _CACHED
            self._by_id[key_id] = _CachedKey(caller, until, row["expires_at"])
        return caller

    async def redeem(self, request: Request, text: str) -> Caller:
        """Return the caller of a stream ticket, who may only read, and count the request.

        Raises a `Problem` 401, the same for every reason, or 429; and `Unavailable`.
        """
        ticket = self.tickets.redeem(text)
        request.scope[_TICKET] = ticket
        if not await self._is_valid(_credential(request)):
            raise Refusal("unauthorized", "the key of this ticket is not valid")
        caller = Caller(ticket.caller, Scope.READ)
        self._count(request, caller)
        return caller

    def _count(self, request: Request, caller: Caller) -> None:
        """Count a request. Raises a `Problem` 429."""
        quota = caller.rate_limit
        if quota is None:
            quota = self.settings.api_rate_limit
        request.scope[_QUOTA] = status = self._limiter.spend(caller.id, quota)
        if status is not None and status.wait:
            detail = (
                f"this key may make {quota} requests a minute in this process; "
                "come back after `Retry-After` seconds"
            )
            raise Refusal("rate_limited", detail)

    async def wait_until_invalid(self, request: Request) -> None:
        """Return when the key of a request is no longer valid: at once if it was revoked here.

        A thousand streams of one key look at it as often as one.
        """
        await self._checks.wait(_credential(request), self._until_invalid)

    async def _until_invalid(self, credential: _Credential) -> None:
        while await self._is_valid(credential):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CACHED):
                    await self._forgot.wait()

    async def confirm(self, request: Request) -> None:
        """Authenticate a request again that was answered late. Raises a `Problem` 401.

        A long poll reveals nothing to a key that was revoked while it waited.
        """
        if not await self._is_valid(_credential(request)):
            request.scope.pop(_QUOTA, None)
            raise Refusal("unauthorized", "the key was revoked, or has expired")

    async def _is_valid(self, credential: _Credential) -> bool:
        """Return whether the credential of a request that was admitted is valid still."""
        secret, ticket, acting = credential
        # An operator pass is valid for a minute, and for requests begun in it.
        if secret.startswith(OPERATOR_PREFIX) and ticket is None:
            return True
        try:
            if acting is not None:
                return await self.caller(acting) is not None
            if ticket is not None:
                return await self._is_caller(ticket)
            return await self._find(secret) is not None
        except Unavailable:
            # A short outage of the database ends no stream.
            return True

    async def _is_caller(self, caller: str) -> bool:
        """Return whether an id is that of a valid key."""
        return caller == _OPERATOR or await self.caller(caller) is not None

    def forget_keys(self) -> None:
        """Empty the cache: a key was revoked."""
        self._cache.clear()
        self._by_id.clear()
        self._forgot.set()
        self._forgot = asyncio.Event()

    async def _find(self, secret: str) -> Caller | None:
        now = self.clock.now()
        if secret.startswith(OPERATOR_PREFIX):
            # Made by another program, by the clock of its system.
            times, token = (now, self.clock.wall()), secret.removeprefix(OPERATOR_PREFIX)
            admitted = any(self.keys.accepts_pass(token, at) for at in times)
            return Caller(_OPERATOR, Scope.ADMIN) if admitted else None
        if not api_keys.is_key(secret):
            return None
        digest = api_keys.digest(secret)
        # All are compared, so that the time taken does not depend on which key nearly matches.
        matches = [hmac.compare_digest(digest, known) for known in self._bootstrap]
        if any(matches):
            return Caller(_bootstrap_id(digest), Scope.ADMIN)
        known = self._cache.get(digest)
        if known is None or known.until <= self.clock.monotonic():
            return await self._look_up(secret, digest, now)
        return known.caller if known.expires_at is None or known.expires_at > now else None

    async def _look_up(self, secret: str, digest: str, now: datetime) -> Caller | None:
        row, forgot = None, None
        while forgot is not self._forgot:
            # A key that was revoked meanwhile may have been read before that.
            forgot = self._forgot
            row = await self.store.read(api_keys.find, secret, now)
            if row is not None and api_keys.is_touch_due(row, now):
                await self._touch(row["id"], now)
        if row is None:
            self._cache.pop(digest, None)
            return None
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        caller = Caller(row["id"], Scope(row["scope"]), row["rate_limit"])
        until = self.clock.monotonic() + _CACHED
        self._cache[digest] = _CachedKey(caller, until, row["expires_at"])
        return caller

    async def _touch(self, key_id: str, now: datetime) -> None:
        try:
            await self.store.claim(api_keys.touch, key_id, now)
        except Unavailable as error:
            # A full disk must not lock readers out.
            log.warning("the use of a key could not be recorded", key=key_id, error=str(error))


def rate_limit_headers(request: Request) -> Mapping[str, str]:
    """Return the `RateLimit` headers of the response; none if the caller has no limit."""
    status: QuotaStatus | None = request.scope.get(_QUOTA)
    return {} if status is None else status.headers()


def ticket_of(request: Request) -> Ticket | None:
    """Return the stream ticket by which a request was admitted, or None."""
    ticket: Ticket | None = request.scope.get(_TICKET)
    return ticket


def _bootstrap_id(digest: str) -> str:
    return f"bootstrap_{digest[:12]}"


def _credential(request: Request) -> _Credential:
    """Return the credential of a request that was admitted."""
    ticket = ticket_of(request)
    acting = request.scope.get(CALLER)
    return _Credential(_bearer(request), ticket and ticket.caller, acting)


def _bearer(request: Request) -> str:
    """Return the bearer credential of a request; empty if there is none, or more than one."""
    values = request.headers.getlist("authorization")
    scheme, _, secret = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return secret.strip() if scheme.lower() == "bearer" else ""
